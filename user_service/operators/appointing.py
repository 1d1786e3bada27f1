"""Making somebody an operator or an admin without anybody's consent: at the first start, and on the machine itself."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFoundError
from common.ids import new_id
from user_service.events.recording import SYSTEM, Action, Details, Event, record
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
from user_service.users.repository import EmailTakenError, add_user, find_by_email, has_account, hold_user
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
    account = await _find(session, institution_id, email=email)
    if account is None:
        account = await _add(session, institution_id, email=email, full_name=full_name, now_ms=now_ms)
        first_id = await _new_token(session, account.user, now_ms=now_ms)
        await _note_invited(session, account, again=False, now_ms=now_ms)
        return Appointed(account.user, account.institution, first_id)
    user = account.user
    # before their tokens, as by those who join
    await hold_user(session, user.user_id, institution_id=institution_id)
    token_id = None if user.password_hash else await _new_token(session, user, now_ms=now_ms)
    raised = MemberChange(role=leading_role(institution_id), disabled=False)
    await apply_change(session, account, raised, SYSTEM, by=BY_MACHINE, now_ms=now_ms)
    if token_id is not None:
        await _note_invited(session, account, again=True, now_ms=now_ms)
    return Appointed(user, account.institution, token_id)


async def invite_first_operator(session: AsyncSession, *, email: str, now_ms: int) -> bool:
    """Mail an invitation to the first operator; False when there is or was one, or one is invited.

    Raises `EmailTakenError`.
    """
    await hold_institution(session, PLATFORM_INSTITUTION_ID)  # processes that start together do this in turn
    if await repository.operators(session):
        return False
    account = await _add(session, PLATFORM_INSTITUTION_ID, email=email, full_name="Operator", now_ms=now_ms)
    await _note_invited(session, account, again=False, now_ms=now_ms)
    await mail_invitation(session, account, invited_by=INVITED_BY, now_ms=now_ms)
    return True


async def _find(session: AsyncSession, institution_id: str, *, email: str) -> Account | None:
    """Return whoever of the institution has the address; raises `NotFoundError` and `EmailTakenError`."""
    institution = await _institution(session, institution_id)
    key = email_key(email)
    user = await find_by_email(session, institution_id, email_key=key)
    if user is None:
        return None
    if not user.password_hash and await has_account(session, email_key=key):
        raise EmailTakenError
    return Account(user, institution)


async def _add(
    session: AsyncSession, institution_id: str, *, email: str, full_name: str, now_ms: int
) -> Account:
    """Store somebody new who is to run the institution; raises `EmailTakenError`."""
    institution = await _institution(session, institution_id)
    if await has_account(session, email_key=email_key(email)):
        raise EmailTakenError
    user = _new_user(institution_id, email=email, full_name=full_name, now_ms=now_ms)
    await add_user(session, user)
    return Account(user, institution)


async def _institution(session: AsyncSession, institution_id: str) -> InstitutionRow:
    institution = await find_institution(session, institution_id)
    if institution is None:
        raise NotFoundError("There is no such institution.")
    return institution


async def _new_token(session: AsyncSession, user: UserRow, *, now_ms: int) -> str:
    """Return the id of a new invitation; those before it are worth nothing."""
    await mailed_tokens.spend_mailed_tokens(session, user, Purpose.INVITATION, now_ms=now_ms)
    return (
        await mailed_tokens.add_mailed_token(session, user.user_id, Purpose.INVITATION, now_ms=now_ms)
    ).token_id


async def _note_invited(session: AsyncSession, account: Account, *, again: bool, now_ms: int) -> None:
    details: Details = {"role": account.user.role} | ({"again": True} if again else {})
    event = Event(Action.USER_INVITED, SYSTEM, "user", account.user.user_id, details)
    await record(session, account.institution.as_contract(), event, now_ms=now_ms)


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
