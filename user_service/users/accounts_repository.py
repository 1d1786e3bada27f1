"""Accounts: people with the institution they belong to, as they log in."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.statements import rows_changed
from user_service.users.tables import UserRow

_BY_ADDRESS = "who logs in says an address; whose it is, the account says"
_BY_TASK = "a task about an account names the user; whose it is, the account says"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and the institution they belong to."""

    user: UserRow
    institution: InstitutionRow


async def find_account(session: AsyncSession, *, email_key: str) -> Account | None:
    """Return the account that logs in with this address."""
    query = select(UserRow, InstitutionRow).join(InstitutionRow).where(UserRow.login_key == email_key)
    found = (await session.execute(of_every_tenant(query, _BY_ADDRESS))).one_or_none()
    return None if found is None else Account(*found)


async def note_login(session: AsyncSession, user: UserRow, *, new_hash: str | None, now_ms: int) -> bool:
    """Record a login; False when the account was disabled or its password or role changed since it was read."""
    noting = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.password_hash == user.password_hash,
            UserRow.role == user.role,
            UserRow.disabled_at_ms.is_(None),
        )
        .values(last_login_at_ms=now_ms, password_hash=new_hash or user.password_hash)
    )
    return await rows_changed(session, of_tenant(user.institution_id, noting)) == 1


async def find_by_id(session: AsyncSession, user_id: str) -> Account | None:
    """Return the account of this user, whatever its institution."""
    query = select(UserRow, InstitutionRow).join(InstitutionRow).where(UserRow.user_id == user_id)
    found = (await session.execute(of_every_tenant(query, _BY_TASK))).one_or_none()
    return None if found is None else Account(*found)
