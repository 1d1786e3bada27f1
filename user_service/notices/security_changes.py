"""Mails to somebody whose account's protection has changed or failed, in case it was not them."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import NoticeKind
from user_service.notices.queue import Letter, about_institution, queue_bounded, queue_notice
from user_service.users.accounts_repository import Account


class SecurityChange(StrEnum):
    """What has changed, in words that a mail can show."""

    PASSWORD_CHANGED = "the password was changed"  # noqa: S105 - what happened, no secret
    PASSWORD_RESET = "the password was reset"  # noqa: S105
    SECOND_FACTOR_ADDED = "a second factor was added"
    SECOND_FACTOR_REMOVED = "the second factor was removed"
    SESSION_ENDED_BY_GUESSES = "a session was ended because ten wrong passwords or codes were shown in it"
    RECOVERY_CODE_USED = "a recovery code was used"


async def tell_owner(session: AsyncSession, account: Account, change: SecurityChange, *, now_ms: int) -> None:
    """Ask for the mail, in the running transaction."""
    letter = Letter(
        NoticeKind.SECURITY_CHANGE,
        account.institution.institution_id,
        recipients=(account.user.email,),
        facts={**about_institution(account.institution), "change": change.value},
    )
    await queue_notice(session, letter, now_ms=now_ms)


async def tell_of_reuse(session: AsyncSession, account: Account, ip_address: str, *, now_ms: int) -> None:
    """Ask for the mail that says that a refresh token was shown a second time, and from where."""
    letter = Letter(
        NoticeKind.SESSION_REUSED,
        account.institution.institution_id,
        recipients=(account.user.email,),
        facts={**about_institution(account.institution), "ip_address": ip_address or "unknown"},
    )
    await queue_bounded(session, letter, whom=account.user.user_id, now_ms=now_ms)
