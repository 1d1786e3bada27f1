"""Invitations: mailed to those who are to join, and accepted by them."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import NoticeKind
from user_service.auth.passwords import Passwords
from user_service.auth.schemas import Tokens
from user_service.auth.session_tokens import SessionTokens, refuse_suspended
from user_service.auth.weak_passwords import refuse_weak
from user_service.events.recording import Action, Actor, Event, record
from user_service.mailed_tokens import repository as mailed_tokens
from user_service.mailed_tokens.desk import InvalidMailedTokenError, MailedTokenDesk
from user_service.mailed_tokens.texts import Purpose
from user_service.members import repository
from user_service.members.schemas import Acceptance
from user_service.notices.mail_limits import MailPurpose, takes_one_more
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.origin import Origin
from user_service.users.accounts_repository import Account
from user_service.users.repository import EmailTakenError, has_account

_log = structlog.get_logger()


async def mail_invitation(session: AsyncSession, account: Account, *, invited_by: str, now_ms: int) -> None:
    """Ask for a mail with a new token; those before it are worth nothing.

    Somebody who has an account elsewhere cannot join, so their mail says that instead. Only they are told.
    """
    user, institution = account.user, account.institution
    await mailed_tokens.spend_mailed_tokens(session, user, Purpose.INVITATION, now_ms=now_ms)
    token = await mailed_tokens.add_mailed_token(session, user.user_id, Purpose.INVITATION, now_ms=now_ms)
    if not await takes_one_more(session, MailPurpose.INVITATION, email_key=user.email_key, now_ms=now_ms):
        _log.warning("invitation.not_mailed", user_id=user.user_id)
        return
    can_join = not await has_account(session, email_key=user.email_key)
    letter = Letter(
        NoticeKind.INVITATION if can_join else NoticeKind.INVITED_ELSEWHERE,
        institution.institution_id,
        recipients=(user.email,),
        facts={**about_institution(institution), "role": user.role, "invited_by_name": invited_by},
        token_id=token.token_id if can_join else None,
        expires_at_ms=token.expires_at_ms,
    )
    await queue_notice(session, letter, now_ms=now_ms)


@dataclass(frozen=True)
class Joining:
    """What people do who were invited."""

    desk: MailedTokenDesk
    passwords: Passwords
    tokens: SessionTokens

    async def accept(
        self, session: AsyncSession, acceptance: Acceptance, origin: Origin, *, now_ms: int
    ) -> Tokens:
        """Give somebody who was invited their password and log them in.

        Raises `InvalidMailedTokenError`, `TooManyAttemptsError`, `InstitutionSuspendedError`, `WeakPasswordError`, and
        `EmailTakenError` when they have joined or registered elsewhere since they were invited.
        """
        shown = acceptance.token.get_secret_value()
        opened = await self.desk.open(session, shown, Purpose.INVITATION, origin, now_ms=now_ms)
        refuse_suspended(opened.account.institution)
        if await has_account(session, email_key=opened.account.user.email_key):
            raise EmailTakenError
        password = acceptance.password.get_secret_value()
        invited = opened.account
        refuse_weak(password, email=invited.user.email, institution_name=invited.institution.name)
        password_hash = await self.passwords.hash(password)
        await self.desk.use(session, opened, now_ms=now_ms)
        account = await _as_now(session, opened.account)
        user, institution = account.user, account.institution
        refuse_suspended(institution)
        full_name = acceptance.full_name or user.full_name
        if not await repository.join(
            session, user, password_hash=password_hash, full_name=full_name, now_ms=now_ms
        ):
            raise InvalidMailedTokenError
        joined = Event(Action.USER_JOINED, Actor("user", user.user_id), "user", user.user_id)
        await record(session, institution.as_contract(), joined, now_ms=now_ms)
        return await self.tokens.start(session, account, origin, now_ms=now_ms)


async def _as_now(session: AsyncSession, account: Account) -> Account:
    """Return `account`, which is held, as it is now: an admin may have changed it while a password was hashed."""
    user_id, institution_id = account.user.user_id, account.user.institution_id
    found = await repository.find_member(session, user_id, institution_id=institution_id)
    if found is None:
        raise InvalidMailedTokenError
    return found
