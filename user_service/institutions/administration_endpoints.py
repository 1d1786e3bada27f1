"""Routes of operators about institutions, and of people about their own."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier, Text
from common.contracts.institutions import InstitutionMode
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.problems import PROBLEMS
from common.strict_json import StrictRoute
from user_service.institutions.administration import Administration
from user_service.institutions.repository import InstitutionFilter
from user_service.institutions.schemas import (
    InstitutionChange,
    InstitutionPage,
    InstitutionView,
    OwnInstitutionChange,
)

MAX_PAGE = 200
_READING: dict[int | str, dict[str, Any]] = {
    401: PROBLEMS[401],
    403: PROBLEMS[403],
    422: PROBLEMS[422],
    503: {"description": "The database is away; see Retry-After"},
}
_GONE: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such institution"}}
router = APIRouter(prefix="/v1/institutions", route_class=StrictRoute, tags=["platform"])
own = APIRouter(prefix="/v1/institution", route_class=StrictRoute, tags=["institutions"])
CanSee = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_READ))]
CanOperate = Annotated[Principal, Depends(require_scope(Scope.PLATFORM_WRITE))]
# what every person holds and no API key or service can
IsPerson = Annotated[Principal, Depends(require_scope(Scope.PROFILE_WRITE))]
CanRun = Annotated[Principal, Depends(require_scope(Scope.INSTITUTION_WRITE))]


async def administration(request: Request) -> Administration:
    """Return what changes institutions."""
    found: Administration = request.state.administration
    return found


AdministrationDep = Annotated[Administration, Depends(administration)]


async def wanted(
    mode: InstitutionMode | None = None,
    suspended: bool | None = None,  # noqa: FBT001 - a query parameter
    name: Annotated[Text | None, Query(description="what the name begins with, in any case")] = None,
) -> InstitutionFilter:
    """Join the filters of the list."""
    return InstitutionFilter(mode=mode, is_suspended=suspended, name_prefix=name)


@router.get("", responses=_READING)
async def list_institutions(
    _caller: CanSee,
    session: SessionDep,
    administration: AdministrationDep,
    wanted: Annotated[InstitutionFilter, Depends(wanted)],
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=64, description="next_cursor of the page before")] = None,
) -> InstitutionPage:
    """Return the institutions of this platform, newest first, a page at a time."""
    return await administration.page(session, wanted, cursor=cursor, limit=limit)


@router.get("/{institution_id}", responses={**_READING, **_GONE})
async def read_institution(
    institution_id: Identifier, _caller: CanSee, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Return one institution."""
    return await administration.read(session, institution_id)


@router.patch("/{institution_id}", responses={**PROBLEMS, **_READING, **_GONE})
async def change_institution(
    institution_id: Identifier,
    change: InstitutionChange,
    caller: CanOperate,
    session: SessionDep,
    administration: AdministrationDep,
) -> InstitutionView:
    """Change an institution's tier, or suspend it: within a minute none of its people and keys is let in.

    Suspending ends nothing else: once it is resumed, sessions and keys that have not expired work again.
    """
    return await administration.change(session, caller, institution_id, change, now_ms=epoch_ms())


@own.get("", responses=_READING)
async def read_own_institution(
    caller: IsPerson, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Return the caller's own institution and what it is given."""
    return await administration.read_own(session, caller)


@own.patch("", responses={**PROBLEMS, **_READING})
async def change_own_institution(
    change: OwnInstitutionChange, caller: CanRun, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Change the name of the caller's institution, or what happens to decisions beyond its quota."""
    return await administration.change_own(session, caller, change, now_ms=epoch_ms())
