"""Getting back in without the password: by a token that is mailed."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import NoticeKind
from user_service.account_tasks.repository import Task, add_task
from user_service.account_tasks.tables import TaskKind
from user_service.attempts.service import Attempt, Attempts
from user_service.auth.passwords import Passwords
from user_service.auth.weak_passwords import refuse_weak
from user_service.events.recording import ANONYMOUS, Action, Actor, Event, record
from user_service.mailed_tokens import repository as mailed_tokens
from user_service.mailed_tokens.desk import InvalidMailedTokenError, MailedTokenDesk
from user_service.mailed_tokens.schemas import TokenMailed
from user_service.mailed_tokens.texts import Purpose, mailed
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.notices.security_changes import SecurityChange, tell_owner
from user_service.origin import Origin
from user_service.password_resets.schemas import ResetConfirmation, ResetRequest
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.times import HOUR_MS
from user_service.users import accounts_repository as accounts
from user_service.users import repository as users
from user_service.users.accounts_repository import Account
from user_service.users.email import email_key

MAILS_PER_HOUR = 3
_log = structlog.get_logger()


@dataclass(frozen=True)
class PasswordResets:
    """Asked for by anybody, done by whoever reads the account's mail."""

    desk: MailedTokenDesk
    passwords: Passwords
    attempts: Attempts

    async def ask(self, session: AsyncSession, request: ResetRequest, *, now_ms: int) -> TokenMailed:
        """Write down that somebody asked; the same is written for an address that nobody has."""
        account = await accounts.find_account(session, email_key=email_key(request.email))
        user_id = None if account is None else account.user.user_id
        await add_task(session, TaskKind.RESET, user_id=user_id, now_ms=now_ms)
        return mailed(Purpose.PASSWORD_RESET)

    async def confirm(
        self, session: AsyncSession, confirmation: ResetConfirmation, origin: Origin, *, now_ms: int
    ) -> None:
        """Set the new password, unlock the account and end all its sessions.

        Whoever does it is known at their address from then on, so that a lock that others bring about again does not
        hold for them. Raises `InvalidMailedTokenError`, `TooManyAttemptsError` and `WeakPasswordError`. A second
        factor stays.
        """
        shown = confirmation.token.get_secret_value()
        opened = await self.desk.open(session, shown, Purpose.PASSWORD_RESET, origin, now_ms=now_ms)
        account, user = opened.account, opened.account.user
        password = confirmation.password.get_secret_value()
        refuse_weak(password, email=user.email, institution_name=account.institution.name)
        new_hash = await self.passwords.hash(password)
        await self.desk.use(session, opened, now_ms=now_ms)
        await mailed_tokens.spend_mailed_tokens(session, user, Purpose.PASSWORD_RESET, now_ms=now_ms)
        if not await users.replace_password(session, user, new_hash=new_hash):
            raise InvalidMailedTokenError
        await self.attempts.unlock(session, user.email_key)
        await self.attempts.note_known(session, Attempt(user.email_key, origin.ip_address), now_ms=now_ms)
        by = Actor("user", user.user_id)
        done = Event(Action.PASSWORD_RESET, by, "user", user.user_id)
        await record(session, account.institution.as_contract(), done, now_ms=now_ms)
        await tell_owner(session, account, SecurityChange.PASSWORD_RESET, now_ms=now_ms)
        await end_sessions(session, account, Ending(by, EndReason.PASSWORD_RESET), now_ms=now_ms)


async def mail_reset(session: AsyncSession, account: Account, task: Task, *, now_ms: int) -> None:
    """Ask for a mail with a token, at most three times an hour for each account."""
    user, institution = account.user, account.institution
    recent = await mailed_tokens.mailed_tokens_of(
        session, user, Purpose.PASSWORD_RESET, since_ms=now_ms - HOUR_MS
    )
    if recent.count >= MAILS_PER_HOUR:
        _log.info("password_reset.not_mailed", user_id=user.user_id, mails_in_an_hour=recent.count)
        return
    token = await mailed_tokens.add_mailed_token(session, user.user_id, Purpose.PASSWORD_RESET, now_ms=now_ms)
    letter = Letter(
        NoticeKind.PASSWORD_RESET,
        institution.institution_id,
        recipients=(user.email,),
        facts=about_institution(institution),
        token_id=token.token_id,
        expires_at_ms=token.expires_at_ms,
    )
    await queue_notice(session, letter, now_ms=now_ms)
    asked = Event(Action.PASSWORD_RESET_ASKED, ANONYMOUS, "user", user.user_id, request_id=task.request_id)
    await record(session, institution.as_contract(), asked, now_ms=now_ms)
