"""Routes about institutions."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_service
from common.clock import epoch_ms
from common.contracts.fields import Identifier
from common.contracts.institutions import Recipients
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.institutions.registering import may_register
from user_service.institutions.schemas import Registered, Registration
from user_service.institutions.service import Institutions
from user_service.sessions.origin import OriginDep

_REGISTER_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    409: {"description": "The e-mail address already has an account"},
    422: {"description": "A value is not taken here, or the password is too easy to guess"},
    403: {"description": "Only operators register institutions here"},
    401: {"description": "An access token was sent, and it is not valid"},
    503: {"description": "Too many passwords are being hashed, or the database is away; see Retry-After"},
}
_RECIPIENTS_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No valid access token"},
    403: {"description": "Not a service token, or one without the scope"},
    404: {"description": "There is no such institution"},
    503: {"description": "The database is away; see Retry-After"},
}
router = APIRouter(prefix="/v1/institutions", route_class=StrictRoute, tags=["institutions"])
internal = APIRouter(prefix="/v1/internal/institutions", route_class=StrictRoute, tags=["internal"])


async def _institutions(request: Request) -> Institutions:
    institutions: Institutions = request.state.institutions
    return institutions


MayRegister = Annotated[None, Depends(may_register)]
InstitutionsDep = Annotated[Institutions, Depends(_institutions)]


@router.post("", status_code=201, responses=_REGISTER_REFUSALS)
async def register(
    registration: Registration,
    _may: MayRegister,
    session: SessionDep,
    institutions: InstitutionsDep,
    origin: OriginDep,
) -> Registered:
    """Register an institution with its first admin, who is logged in at once."""
    return await institutions.register(session, registration, origin, now_ms=epoch_ms())


@internal.get(
    "/{institution_id}/recipients",
    dependencies=[Depends(require_service(Scope.RECIPIENTS_READ))],
    responses=_RECIPIENTS_REFUSALS,
)
async def read_recipients(
    institution_id: Identifier, session: SessionDep, institutions: InstitutionsDep
) -> Recipients:
    """Return where an institution's alerts go: the addresses of its enabled admins."""
    return await institutions.recipients(session, institution_id)
