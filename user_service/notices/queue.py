"""queue_notice(): a mail that is asked for in the transaction that makes it necessary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.notices import Notice, NoticeKind
from common.ids import new_id
from user_service.institutions.tables import InstitutionRow
from user_service.notices.tables import NoticeRow
from user_service.outbox import NOTICES, tell_later


@dataclass(frozen=True)
class Letter:
    """What is to be mailed, to whom. Without recipients it goes to the institution's admins.

    `token_id` names the mailed token (`user_service.auth.mailed_tokens`) whose text the mail will hold.
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


async def queue_notice(session: AsyncSession, letter: Letter, *, now_ms: int) -> str:
    """Write `letter` down, in the running transaction; return the id of its notice."""
    notice = Notice(
        notice_id=new_id("ntc"),
        kind=letter.kind,
        institution_id=letter.institution_id,
        recipients=tuple(letter.recipients),
        facts=dict(letter.facts),
        created_at=_time(now_ms),
        expires_at=None if letter.expires_at_ms is None else _time(letter.expires_at_ms),
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


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
