"""The statements on the people of one institution, and on invitations that nobody accepted."""

from collections.abc import Sequence

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.tenancy import of_every_tenant, of_tenant
from user_service.institutions.tables import InstitutionRow
from user_service.mailed_tokens.tables import MailedTokenRow
from user_service.mailed_tokens.texts import Purpose
from user_service.statements import rows_changed
from user_service.users.accounts_repository import Account
from user_service.users.repository import EmailTakenError, can_log_in
from user_service.users.tables import UserRow

_EXPIRED = "invitations of all institutions expire"


async def read_members(
    session: AsyncSession, institution_id: str, *, after: str | None, limit: int
) -> Sequence[UserRow]:
    """Return people of an institution in the order they came, which their ids keep: those after the id `after`."""
    query = select(UserRow)
    if after is not None:
        query = query.where(UserRow.user_id > after)
    query = query.order_by(UserRow.user_id).limit(limit)
    return (await session.scalars(of_tenant(institution_id, query))).all()


async def find_member(session: AsyncSession, user_id: str, *, institution_id: str) -> Account | None:
    """Return one person of this institution, whatever their state, as they are now."""
    query = (
        select(UserRow, InstitutionRow)
        .join(InstitutionRow)
        .where(UserRow.user_id == user_id)
        .execution_options(populate_existing=True)
    )
    found = (await session.execute(of_tenant(institution_id, query))).one_or_none()
    return None if found is None else Account(*found)


async def count_able(session: AsyncSession, institution_id: str, role: Role) -> int:
    """Return how many people of this role can log in: they have joined and are not disabled."""
    query = select(func.count()).select_from(UserRow).where(can_log_in(role))
    return int(await session.scalar(of_tenant(institution_id, query)) or 0)


async def join(
    session: AsyncSession, user: UserRow, *, password_hash: str, full_name: str, now_ms: int
) -> bool:
    """Give somebody who was invited a password; False when they are disabled, have one or got another role.

    Raises `EmailTakenError` when their address has got an account elsewhere: of those who join at once, one does.
    """
    joining = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.role == user.role,
            UserRow.password_hash == "",
            UserRow.disabled_at_ms.is_(None),
        )
        .values(
            login_key=user.email_key,
            password_hash=password_hash,
            full_name=full_name,
            last_login_at_ms=now_ms,
        )
    )
    try:
        return await rows_changed(session, of_tenant(user.institution_id, joining)) == 1
    except IntegrityError as error:
        raise EmailTakenError from error


async def expired_invitations(session: AsyncSession, *, now_ms: int, limit: int) -> Sequence[tuple[str, str]]:
    """Return user and institution of some who were invited, have not joined and hold no invitation any more."""
    invited = exists().where(
        MailedTokenRow.user_id == UserRow.user_id,
        MailedTokenRow.purpose == Purpose.INVITATION.value,
        MailedTokenRow.expires_at_ms > now_ms,
    )
    query = (
        select(UserRow.user_id, UserRow.institution_id)
        .where(UserRow.password_hash == "", ~invited)
        .order_by(UserRow.user_id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in await session.execute(of_every_tenant(query, _EXPIRED))]


async def is_still_invited(session: AsyncSession, user_id: str, *, institution_id: str, now_ms: int) -> bool:
    """Say whether a person of this institution holds an invitation that has not expired."""
    query = select(MailedTokenRow.token_id).where(
        MailedTokenRow.user_id == user_id,
        MailedTokenRow.purpose == Purpose.INVITATION.value,
        MailedTokenRow.expires_at_ms > now_ms,
    )
    return (await session.scalars(of_tenant(institution_id, query))).first() is not None


async def remove_invited(session: AsyncSession, user_id: str, *, institution_id: str) -> bool:
    """Delete somebody who was invited, with their tokens; False when they have joined, or are gone."""
    people = delete(UserRow).where(UserRow.user_id == user_id, UserRow.password_hash == "")
    return await rows_changed(session, of_tenant(institution_id, people)) == 1
