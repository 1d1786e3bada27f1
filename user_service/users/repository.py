"""The statements on users."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Select, and_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.errors import PlatformError
from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.statements import rows_changed
from user_service.users.roles import leading_role
from user_service.users.tables import UserRow

_TAKEN = "an address has one account on the whole platform"


class EmailTakenError(PlatformError):
    """The e-mail address has an account, or is that of somebody of this institution."""

    status_code = 409
    type = "email-taken"
    title = "This e-mail address already has an account"


def can_log_in(role: Role) -> ColumnElement[bool]:
    """Tell people of a role who have joined and are not disabled from all others."""
    return and_(
        UserRow.role == role.value,
        UserRow.disabled_at_ms.is_(None),
        UserRow.password_hash != "",
    )


async def add_user(session: AsyncSession, user: UserRow) -> None:
    """Store a new user; raises `EmailTakenError`."""
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        raise EmailTakenError from error


async def has_account(session: AsyncSession, *, email_key: str) -> bool:
    """Say whether somebody logs in with the address; whoever stores one finds out for sure."""
    query = select(UserRow.user_id).where(UserRow.login_key == email_key)
    return await session.scalar(of_every_tenant(query, _TAKEN)) is not None


async def find_by_email(session: AsyncSession, institution_id: str, *, email_key: str) -> UserRow | None:
    """Return whoever has this address in an institution, also those who were only invited."""
    query = select(UserRow).where(UserRow.email_key == email_key)
    found: UserRow | None = await session.scalar(of_tenant(institution_id, query))
    return found


async def find_user(
    session: AsyncSession, user_id: str, *, institution_id: str
) -> tuple[UserRow, InstitutionRow] | None:
    """Return an enabled user of this institution."""
    found = (await session.execute(of_tenant(institution_id, _enabled(user_id)))).one_or_none()
    return None if found is None else (found[0], found[1])


async def find_people(
    session: AsyncSession, institution_id: str, user_ids: Collection[str]
) -> Sequence[UserRow]:
    """Return those of `user_ids` who belong to this institution, whatever their state."""
    query = select(UserRow).where(UserRow.user_id.in_(user_ids)).order_by(UserRow.user_id)
    return (await session.scalars(of_tenant(institution_id, query))).all()


async def hold_user(session: AsyncSession, user_id: str, *, institution_id: str) -> None:
    """Make others who change this user or end their sessions wait until the commit."""
    holding = select(UserRow.user_id).where(UserRow.user_id == user_id).with_for_update(key_share=True)
    await session.execute(of_tenant(institution_id, holding))


async def keep_user(
    session: AsyncSession, user_id: str, *, institution_id: str
) -> tuple[UserRow, InstitutionRow] | None:
    """Return an enabled user whom nobody changes until the commit; those who do the same do not wait for each other.

    SQLite has no such lock: there the first write of all makes others wait, so one is made that changes nothing.
    """
    if session.get_bind().dialect.name == "sqlite":
        writing = update(UserRow).where(UserRow.user_id == user_id).values(full_name=UserRow.full_name)
        scoped = of_tenant(institution_id, writing)
        await session.execute(scoped.execution_options(synchronize_session=False))
    query = _enabled(user_id).with_for_update(read=True, of=UserRow)
    found = (await session.execute(of_tenant(institution_id, query))).one_or_none()
    return None if found is None else (found[0], found[1])


async def replace_password(session: AsyncSession, user: UserRow, *, new_hash: str) -> bool:
    """Store a new hash; False when the password changed since `user` was read."""
    replacing = (
        update(UserRow)
        .where(UserRow.user_id == user.user_id, UserRow.password_hash == user.password_hash)
        .values(password_hash=new_hash)
    )
    return await rows_changed(session, of_tenant(user.institution_id, replacing)) == 1


async def emails_of_admins(session: AsyncSession, institution_id: str) -> list[str]:
    """Return the addresses of those who run an institution, have joined and are not disabled."""
    query = select(UserRow.email).where(can_log_in(leading_role(institution_id))).order_by(UserRow.user_id)
    return list(await session.scalars(of_tenant(institution_id, query)))


def _enabled(user_id: str) -> Select[UserRow, InstitutionRow]:
    return (
        select(UserRow, InstitutionRow)
        .join(InstitutionRow)
        .where(UserRow.user_id == user_id, UserRow.disabled_at_ms.is_(None))
    )
