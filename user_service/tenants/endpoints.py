"""Routes of our own services about institutions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import require_service
from common.contracts.fields import Identifier
from common.contracts.institutions import Recipients
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.errors import NotFoundError
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.tenants.service import Institutions

internal = APIRouter(prefix="/v1/internal/institutions", route_class=StrictRoute, tags=["internal"])


async def _institutions(request: Request) -> Institutions:
    institutions: Institutions = request.state.institutions
    return institutions


InstitutionsDep = Annotated[Institutions, Depends(_institutions)]


@internal.get(
    "/{institution_id}/recipients",
    dependencies=[Depends(require_service(Scope.RECIPIENTS_READ))],
    responses=refusals(NotFoundError),
)
async def read_recipients(
    institution_id: Identifier, session: SessionDep, institutions: InstitutionsDep
) -> Recipients:
    """Return where an institution's alerts go: the addresses of its enabled admins."""
    return await institutions.recipients(session, institution_id)
