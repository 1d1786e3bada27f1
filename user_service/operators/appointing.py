"""Making somebody an operator or an admin without anybody's consent: at the first start, and on the machine itself."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFoundError
from common.ids import new_id
from user_service.auth import repository as tokens
from user_service.auth.mailed_tokens import Purpose
from user_service.auth.repository import Account
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions.repository import find_institution
from user_service.institutions.tables import InstitutionRow
from user_service.members.invitations import mail_invitation
from user_service.members.repository import hold_institution
from user_service.operators import repository
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.users.email import email_key
from user_service.users.repository import EmailTakenError, add_user
from user_service.users.roles import PLATFORM_INSTITUTION_ID, leading_role
from user_service.users.tables import UserRow

INVITED_BY = "Assay"


@dataclass(frozen=True)
class Appointed:
    """Who runs the institution now; `token_id` lets them join, None: they have joined already."""

    user: UserRow
    institution: InstitutionRow
    token_id: str | None


async def appoint(
    session: AsyncSession, institution_id: str, *, email: str, full_name: str, now_ms: int
) -> Appointed:
    """Make the holder of an address run an institution: somebody new, or one of its own people.

    Raises `NotFoundError` for an unknown institution and `EmailTakenError` for somebody of another one.
    """
    account = await _place(session, institution_id, email=email, full_name=full_name, now_ms=now_ms)
    user, institution = account.user, account.institution
    if user.password_hash:
        return Appointed(user, institution, None)
    await tokens.spend_mailed_tokens(session, user, Purpose.INVITATION, now_ms=now_ms)
    token = await tokens.add_mailed_token(session, user.user_id, Purpose.INVITATION, now_ms=now_ms)
    return Appointed(user, institution, token.token_id)


async def invite_first_operator(session: AsyncSession, *, email: str, now_ms: int) -> bool:
    """Mail an invitation to the first operator; False when there was ever one. Raises `EmailTakenError`."""
    await hold_institution(session, PLATFORM_INSTITUTION_ID)  # processes that start together do this in turn
    if await repository.operators(session):
        return False
    account = await _place(session, PLATFORM_INSTITUTION_ID, email=email, full_name="Operator", now_ms=now_ms)
    await mail_invitation(session, account, invited_by=INVITED_BY, now_ms=now_ms)
    return True


async def _place(
    session: AsyncSession, institution_id: str, *, email: str, full_name: str, now_ms: int
) -> Account:
    """Store who is to run the institution, or raise up who is there."""
    institution = await find_institution(session, institution_id)
    if institution is None:
        raise NotFoundError("There is no such institution.")
    user = await repository.find_by_email(session, email_key=email_key(email))
    if user is None:
        user = _new_user(institution_id, email=email, full_name=full_name, now_ms=now_ms)
        await add_user(session, user)
        await _record(session, institution, user, Action.USER_INVITED, now_ms=now_ms)
    elif user.institution_id != institution_id:
        raise EmailTakenError
    else:
        await _raise_up(session, institution, user, now_ms=now_ms)
    return Account(user, institution)


async def _raise_up(
    session: AsyncSession, institution: InstitutionRow, user: UserRow, *, now_ms: int
) -> None:
    """Give one of an institution's own people the role that runs it, and let them in again."""
    role = leading_role(institution.institution_id).value
    if user.disabled_at_ms is not None:
        user.disabled_at_ms = None
        await _record(session, institution, user, Action.USER_ENABLED, now_ms=now_ms)
    if user.role != role:
        user.role = role
        await _record(session, institution, user, Action.USER_ROLE_CHANGED, now_ms=now_ms)
        ending = Ending(SYSTEM, EndReason.ROLE_CHANGED)
        await end_sessions(session, Account(user, institution), ending, now_ms=now_ms)
    await session.flush()


async def _record(
    session: AsyncSession, institution: InstitutionRow, user: UserRow, action: Action, *, now_ms: int
) -> None:
    event = Event(action, SYSTEM, "user", user.user_id, {"role": user.role})
    await record(session, institution.as_contract(), event, now_ms=now_ms)


def _new_user(institution_id: str, *, email: str, full_name: str, now_ms: int) -> UserRow:
    return UserRow(
        user_id=new_id("usr"),
        institution_id=institution_id,
        email=email,
        email_key=email_key(email),
        full_name=full_name,
        role=leading_role(institution_id).value,
        password_hash="",
        created_at_ms=now_ms,
    )
