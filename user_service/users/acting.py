"""Who acts: read anew from the database, because a token may be some minutes older than its owner's rights."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import ForbiddenError, Principal, UnauthenticatedError
from common.contracts.tokens import Scope
from user_service.auth.repository import Account
from user_service.users import repository
from user_service.users.roles import SCOPES_BY_ROLE, Role


async def find_caller(session: AsyncSession, caller: Principal) -> Account:
    """Return the caller's own account; raises `UnauthenticatedError` when it is gone or disabled."""
    found = await repository.find_user(session, caller.subject, institution_id=caller.institution_id)
    if found is None:
        raise UnauthenticatedError
    return Account(*found)


async def find_holder(session: AsyncSession, user_id: str, *, institution_id: str, scope: Scope) -> Account:
    """Return an account whose role holds `scope` now; raises `UnauthenticatedError` and `ForbiddenError`."""
    found = await repository.find_user(session, user_id, institution_id=institution_id)
    if found is None:
        raise UnauthenticatedError
    if scope not in SCOPES_BY_ROLE[Role(found[0].role)]:
        raise ForbiddenError
    return Account(*found)
