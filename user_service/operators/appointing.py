"""Making somebody an operator or an admin without anybody's consent: at the first start, and on the machine itself."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFoundError
from common.ids import new_id
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions.repository import find_institution, hold_institution
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID, InstitutionRow
from user_service.mailed_tokens import repository as mailed_tokens
from user_service.mailed_tokens.texts import Purpose
from user_service.members.changing import apply_change
from user_service.members.invitations import mail_invitation
from user_service.members.schemas import MemberChange
from user_service.members.telling import BY_MACHINE
from user_service.operators import repository
from user_service.users.accounts_repository import Account
from user_service.users.email import email_key
from user_service.users.repository import EmailTakenError, add_user, find_by_email, has_account
from user_service.users.roles import leading_role
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
    await hold_institution(session, institution_id)
    account = await _place(session, institution_id, email=email, full_name=full_name, now_ms=now_ms)
    user, institution = account.user, account.institution
    if user.password_hash:
        return Appointed(user, institution, None)
    await mailed_tokens.spend_mailed_tokens(session, user, Purpose.INVITATION, now_ms=now_ms)
    token = await mailed_tokens.add_mailed_token(session, user.user_id, Purpose.INVITATION, now_ms=now_ms)
    return Appointed(user, institution, token.token_id)


async def invite_first_operator(session: AsyncSession, *, email: str, now_ms: int) -> bool:
    """Mail an invitation to the first operator; False when there is or was one, or one is invited.

    Raises `EmailTakenError`.
    """
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
    key = email_key(email)
    user = await find_by_email(session, institution_id, email_key=key)
    if (user is None or not user.password_hash) and await has_account(session, email_key=key):
        raise EmailTakenError
    if user is None:
        user = _new_user(institution_id, email=email, full_name=full_name, now_ms=now_ms)
        await add_user(session, user)
        event = Event(Action.USER_INVITED, SYSTEM, "user", user.user_id, {"role": user.role})
        await record(session, institution.as_contract(), event, now_ms=now_ms)
    else:
        raised = MemberChange(role=leading_role(institution_id), disabled=False)
        account = Account(user, institution)
        await apply_change(session, account, raised, SYSTEM, by=BY_MACHINE, now_ms=now_ms)
    return Account(user, institution)


def _new_user(institution_id: str, *, email: str, full_name: str, now_ms: int) -> UserRow:
    user_id = new_id("usr")
    return UserRow(
        user_id=user_id,
        institution_id=institution_id,
        email=email,
        email_key=email_key(email),
        login_key=user_id,
        full_name=full_name,
        role=leading_role(institution_id).value,
        password_hash="",
        created_at_ms=now_ms,
    )
