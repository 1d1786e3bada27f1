"""queue_notice(): a mail that is asked for in the transaction that makes it necessary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import MAX_RECIPIENTS, Notice, NoticeKind
from common.ids import new_id
from user_service.institutions.tables import InstitutionRow
from user_service.notices.mail_counts_repository import count_mail
from user_service.notices.tables import NoticeRow
from user_service.outbox import NOTICES, tell_later
from user_service.times import HOUR_MS, to_time, to_time_or_none
from user_service.users.tables import UserRow

MAX_FACT = 256
MAX_AN_HOUR = 30
_log = structlog.get_logger()


@dataclass(frozen=True)
class Letter:
    """What is to be mailed, to whom. Without recipients it goes to the institution's admins.

    `token_id` names the mailed token (`user_service.mailed_tokens`) whose text the mail will hold.
    """

    kind: NoticeKind
    institution_id: str
    recipients: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    token_id: str | None = None
    expires_at_ms: int | None = None


def about_institution(institution: InstitutionRow) -> dict[str, str]:
    """Return the facts about an institution that every kind of mail can show."""
    return {"institution_name": institution.name, "institution_mode": institution.mode}


def as_person(user: UserRow) -> str:
    """Return a person as a fact of a mail."""
    return as_fact(f"{user.full_name} ({user.email})")


def as_fact(text: str) -> str:
    """Return `text` as it fits into a fact."""
    return text[:MAX_FACT]


def as_moment(milliseconds: int) -> str:
    """Return a time as a fact of a mail."""
    return to_time(milliseconds).strftime("%Y-%m-%d %H:%M UTC")


async def queue_bounded(session: AsyncSession, letter: Letter, *, whom: str, now_ms: int) -> None:
    """Do what `queue_notice` does, at most 30 times an hour for each kind and `whom`; the last mail says so.

    It is called after an event of the same institution was recorded and before `note_change`: all of them make others
    wait until the commit.
    """
    count = await count_mail(session, letter.kind.value, whom=whom, since_ms=now_ms - HOUR_MS, now_ms=now_ms)
    if count.mails > MAX_AN_HOUR:
        _log.warning("notice.left_out", kind=letter.kind.value, institution_id=letter.institution_id)
        return
    if count.mails == MAX_AN_HOUR:
        until = as_moment(count.first_at_ms + HOUR_MS)
        said = {
            "more_of_these": f"there were {MAX_AN_HOUR} within an hour; the next ones until {until} are left out"
        }
        letter = replace(letter, facts={**letter.facts, **said})
    await queue_notice(session, letter, now_ms=now_ms)


async def queue_notice(session: AsyncSession, letter: Letter, *, now_ms: int) -> str:
    """Write `letter` down, in the running transaction; return the id of its notice."""
    notice = Notice(
        notice_id=new_id("ntc"),
        kind=letter.kind,
        institution_id=letter.institution_id,
        recipients=tuple(letter.recipients)[:MAX_RECIPIENTS],
        facts=dict(letter.facts),
        created_at=to_time(now_ms),
        expires_at=to_time_or_none(letter.expires_at_ms),
    )
    session.add(
        NoticeRow(
            notice_id=notice.notice_id,
            body=notice.model_dump_json(),
            token_id=letter.token_id,
            created_at_ms=now_ms,
        )
    )
    await session.flush()
    await tell_later(session, NOTICES, notice.notice_id, now_ms=now_ms)
    return notice.notice_id
