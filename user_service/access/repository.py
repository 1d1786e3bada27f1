"""The statements on the feed of access changes."""

from enum import StrEnum

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.access.tables import AccessChangeRow
from user_service.numbering import next_number

FEED = "access"


class Subject(StrEnum):
    """What an access change is about."""

    INSTITUTION = "institution"
    API_KEY = "api_key"
    SESSION = "session"


async def note_change(session: AsyncSession, kind: Subject, subject_id: str) -> None:
    """Put a subject at the end of the feed: every service learns within seconds what it is now.

    It is called in the transaction that makes the change.
    """
    version = await next_number(session, FEED)
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = make(AccessChangeRow).values(kind=kind.value, subject_id=subject_id, version=version)
    key = ["kind", "subject_id"]
    await session.execute(row.on_conflict_do_update(index_elements=key, set_={"version": version}))
