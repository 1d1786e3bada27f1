"""How many mails one address gets that somebody else can make necessary, whoever that is."""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from user_service.notices.mail_counts_repository import count_mail
from user_service.times import DAY_MS


class MailPurpose(StrEnum):
    """Why somebody is mailed who did not ask for it, as far as we know."""

    REGISTRATION = "registration"
    INVITATION = "invitation"  # of all institutions together


PER_DAY: Mapping[MailPurpose, int] = {MailPurpose.REGISTRATION: 3, MailPurpose.INVITATION: 20}


async def takes_one_more(session: AsyncSession, purpose: MailPurpose, *, email_key: str, now_ms: int) -> bool:
    """Count a mail; False when an address has had all that it gets within a day.

    Whoever asked is not told: it would say what others did about this address.
    """
    count = await count_mail(session, purpose.value, whom=email_key, since_ms=now_ms - DAY_MS, now_ms=now_ms)
    return count.mails <= PER_DAY[purpose]
