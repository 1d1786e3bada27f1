"""The statements on users."""

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import PlatformError
from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.users.roles import leading_role
from user_service.users.tables import UserRow

_TAKEN = "an address has one account on the whole platform"


class EmailTakenError(PlatformError):
    """The e-mail address already has an account."""

    status_code = 409
    type = "email-taken"
    title = "This e-mail address already has an account"


async def add_user(session: AsyncSession, user: UserRow) -> None:
    """Store a new user; raises `EmailTakenError`."""
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        raise EmailTakenError from error


async def refuse_taken(session: AsyncSession, *, email_key: str) -> None:
    """Raise `EmailTakenError` when the address has an account; whoever stores a user finds out for sure."""
    query = select(UserRow.user_id).where(UserRow.email_key == email_key)
    if await session.scalar(of_every_tenant(query, _TAKEN)) is not None:
        raise EmailTakenError


async def find_user(
    session: AsyncSession, user_id: str, *, institution_id: str
) -> tuple[UserRow, InstitutionRow] | None:
    """Return an enabled user of this institution."""
    query = (
        select(UserRow, InstitutionRow)
        .join(InstitutionRow)
        .where(UserRow.user_id == user_id, UserRow.disabled_at_ms.is_(None))
    )
    found = (await session.execute(of_tenant(institution_id, query))).one_or_none()
    return None if found is None else (found[0], found[1])


async def hold_user(session: AsyncSession, user_id: str, *, institution_id: str) -> None:
    """Make others who change this user or end their sessions wait until the commit."""
    holding = select(UserRow.user_id).where(UserRow.user_id == user_id).with_for_update(key_share=True)
    await session.execute(of_tenant(institution_id, holding))


async def replace_password(session: AsyncSession, user: UserRow, *, new_hash: str) -> bool:
    """Store a new hash; False when the password changed since `user` was read."""
    replacing = (
        update(UserRow)
        .where(UserRow.user_id == user.user_id, UserRow.password_hash == user.password_hash)
        .values(password_hash=new_hash)
        .execution_options(synchronize_session=False)
    )
    replaced = await session.execute(of_tenant(user.institution_id, replacing))
    assert isinstance(replaced, CursorResult)  # noqa: S101 - what an UPDATE returns
    return replaced.rowcount == 1


async def emails_of_admins(session: AsyncSession, institution_id: str) -> list[str]:
    """Return the addresses of those who run an institution, have joined and are not disabled."""
    query = (
        select(UserRow.email)
        .where(
            UserRow.role == leading_role(institution_id).value,
            UserRow.disabled_at_ms.is_(None),
            UserRow.password_hash != "",
        )
        .order_by(UserRow.user_id)
    )
    return list(await session.scalars(of_tenant(institution_id, query)))
