"""Who acts: read anew from the database, because a token may be some minutes older than its owner's rights."""

from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.bearer import require_scope
from common.auth.principal import ForbiddenError, Principal, UnauthenticatedError
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope
from user_service.institutions.tables import InstitutionRow
from user_service.users import repository
from user_service.users.accounts_repository import Account
from user_service.users.tables import UserRow


async def find_caller(session: AsyncSession, caller: Principal) -> Account:
    """Return the caller's own account; raises `UnauthenticatedError` when it is gone or disabled."""
    found = await repository.find_user(session, caller.subject, institution_id=caller.institution_id)
    if found is None:
        raise UnauthenticatedError
    return Account(*found)


async def find_holder(session: AsyncSession, user_id: str, *, institution_id: str, scope: Scope) -> Account:
    """Return an account whose role holds `scope` now; raises `UnauthenticatedError` and `ForbiddenError`."""
    return _holding(await repository.find_user(session, user_id, institution_id=institution_id), scope)


async def keep_holder(session: AsyncSession, caller: Principal, scope: Scope) -> Account:
    """Return the caller's account, whose role holds `scope` until the commit; raises as `find_holder`."""
    return _holding(
        await repository.keep_user(session, caller.subject, institution_id=caller.institution_id), scope
    )


def _holding(found: tuple[UserRow, InstitutionRow] | None, scope: Scope) -> Account:
    if found is None:
        raise UnauthenticatedError
    if scope not in SCOPES_BY_ROLE[Role(found[0].role)]:
        raise ForbiddenError(missing=scope)
    return Account(*found)


CanChangeProfile = Annotated[Principal, Depends(require_scope(Scope.PROFILE_WRITE))]
