"""note_change(): what ends or begins somebody's rights is put into the feed that all services read."""

import secrets
from enum import StrEnum

from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from user_service.access_changes.tables import AccessChangeRow, AccessMarkRow
from user_service.numbering import next_number
from user_service.statements import insert_or

FEED = "access"
MARK_BYTES = 8
ANNOUNCE = "access_changes.announce"
"""Where a session holds what is to be called after a commit that changed something."""
_CHANGED = "access_changes.changed"


class Subject(StrEnum):
    """What an access change is about."""

    INSTITUTION = "institution"
    API_KEY = "api_key"
    SESSION = "session"


async def note_change(session: AsyncSession, kind: Subject, subject_id: str) -> None:
    """Put a subject at the end of the feed: every service learns within seconds what it is now.

    It is called in the transaction that makes the change, after its events: both take numbers, and whoever takes them
    crosswise waits for each other.
    """
    version = await next_number(session, FEED)
    change = {"version": version, "mark": secrets.token_hex(MARK_BYTES)}
    row = insert_or(session, AccessChangeRow).values(kind=kind.value, subject_id=subject_id, **change)
    await session.execute(row.on_conflict_do_update(index_elements=["kind", "subject_id"], set_=change))
    await session.execute(insert(AccessMarkRow).values(change))
    if ANNOUNCE in session.info:
        if _CHANGED not in session.info:
            event.listen(session.sync_session, "after_transaction_end", _ended)
        session.info[_CHANGED] = True


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Announce, when the transaction is over: after a rollback that costs whoever hears it one look for nothing."""
    if transaction.parent is None and session.info.get(_CHANGED):
        session.info[_CHANGED] = False
        session.info[ANNOUNCE]()
