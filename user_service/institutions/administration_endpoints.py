"""Routes of operators about institutions, and of people about their own."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from common.auth.bearer import require_scope
from common.auth.principal import Principal
from common.clock import epoch_ms
from common.contracts.fields import Identifier, Text
from common.contracts.institutions import InstitutionMode
from common.contracts.tokens import Scope
from common.db import SessionDep
from common.errors import NotFoundError
from common.paging import Cursor, Limit
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.institutions.administration import Administration
from user_service.institutions.repository import InstitutionFilter
from user_service.institutions.schemas import (
    InstitutionChange,
    InstitutionPage,
    InstitutionView,
    OwnInstitutionChange,
)

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


@router.get("")
async def list_institutions(
    _caller: CanSee,
    session: SessionDep,
    administration: AdministrationDep,
    wanted: Annotated[InstitutionFilter, Depends(wanted)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> InstitutionPage:
    """Return the institutions of this platform, newest first, a page at a time."""
    return await administration.page(session, wanted, cursor=cursor, limit=limit)


@router.get("/{institution_id}", responses=refusals(NotFoundError))
async def read_institution(
    institution_id: Identifier, _caller: CanSee, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Return one institution."""
    return await administration.read(session, institution_id)


@router.patch("/{institution_id}", responses=refusals(NotFoundError))
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


@own.get("")
async def read_own_institution(
    caller: IsPerson, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Return the caller's own institution and what it is given."""
    return await administration.read_own(session, caller)


@own.patch("")
async def change_own_institution(
    change: OwnInstitutionChange, caller: CanRun, session: SessionDep, administration: AdministrationDep
) -> InstitutionView:
    """Change the name of the caller's institution, or what happens to decisions beyond its quota."""
    return await administration.change_own(session, caller, change, now_ms=epoch_ms())
