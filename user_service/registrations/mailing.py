"""What the owner of an address is mailed when somebody registers an institution with it."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import NoticeKind
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.registrations import repository
from user_service.registrations.repository import Waiting
from user_service.users.accounts_repository import Account, find_account
from user_service.users.email import email_key

SENDER = "Assay"


async def mail_registration(session: AsyncSession, registration_id: str, *, now_ms: int) -> None:
    """Ask for a mail with the token, or for one that says that the address has an account."""
    waiting = await repository.find(session, registration_id)
    if waiting is None:
        return
    account = await find_account(session, email_key=email_key(waiting.email))
    if account is None:
        await queue_notice(session, _confirmation(waiting, registration_id), now_ms=now_ms)
    elif account.user.disabled_at_ms is None:
        await queue_notice(session, _in_use(account), now_ms=now_ms)


def _confirmation(waiting: Waiting, registration_id: str) -> Letter:
    """Return the mail to somebody we do not know: it holds nothing that whoever registered has written."""
    return Letter(
        NoticeKind.REGISTRATION,
        PLATFORM_INSTITUTION_ID,
        recipients=(waiting.email,),
        facts={"institution_name": SENDER},
        token_id=registration_id,
        expires_at_ms=waiting.expires_at_ms,
    )


def _in_use(account: Account) -> Letter:
    return Letter(
        NoticeKind.ADDRESS_IN_USE,
        account.institution.institution_id,
        recipients=(account.user.email,),
        facts=about_institution(account.institution),
    )
