"""How many invitations are mailed: nobody's mailbox is filled with them, and no institution becomes a mailer."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import PlatformError
from user_service.mailed_tokens.repository import MailedTokens, mailed_tokens_in, mailed_tokens_of
from user_service.mailed_tokens.texts import Purpose
from user_service.times import DAY_MS, HOUR_MS
from user_service.users.tables import UserRow

TO_ONE_PER_HOUR = 3
TO_ONE_PER_DAY = 5  # of the twenty that all institutions have together: none of them uses these up alone
BY_ALL_PER_DAY = 100


class TooManyInvitationsError(PlatformError):
    """So many invitations were mailed by this institution, to this address or to all, that the next one has to wait."""

    status_code = 429
    type = "too-many-invitations"
    title = "Too many invitations were mailed; try again later"


async def refuse_too_many(session: AsyncSession, user: UserRow, *, now_ms: int) -> None:
    """Raise `TooManyInvitationsError` when no other invitation may be mailed to `user` now.

    What other institutions mailed to the same address counts elsewhere (`user_service.notices.mail_limits`) and is not
    told here. Whoever calls it holds the institution, so that two who invite at once count each other.
    """
    to_one = await mailed_tokens_of(session, user, Purpose.INVITATION, since_ms=now_ms - HOUR_MS)
    to_one_in_a_day = await mailed_tokens_of(session, user, Purpose.INVITATION, since_ms=now_ms - DAY_MS)
    by_all = await mailed_tokens_in(
        session, user.institution_id, Purpose.INVITATION, since_ms=now_ms - DAY_MS
    )
    wait_ms = max(
        _wait_ms(to_one, limit=TO_ONE_PER_HOUR, window_ms=HOUR_MS, now_ms=now_ms),
        _wait_ms(to_one_in_a_day, limit=TO_ONE_PER_DAY, window_ms=DAY_MS, now_ms=now_ms),
        _wait_ms(by_all, limit=BY_ALL_PER_DAY, window_ms=DAY_MS, now_ms=now_ms),
    )
    if wait_ms:
        raise TooManyInvitationsError(retry_after_s=-(-wait_ms // 1000))


def _wait_ms(mailed: MailedTokens, *, limit: int, window_ms: int, now_ms: int) -> int:
    return 0 if mailed.count < limit else max(1, mailed.first_at_ms + window_ms - now_ms)
