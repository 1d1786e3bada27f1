"""What still has to be told to log_service and alert_service, and its place in the schema."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.outbox import Outbox, OutboxEntry, outbox_table
from user_service.tables import Base

AUDIT = "audit"
NOTICES = "notices"
table = outbox_table(Base.metadata)
outbox = Outbox(table)


async def tell_later(session: AsyncSession, target: str, subject_id: str, *, now_ms: int) -> None:
    """Write down, in the running transaction, that `target` has to be told about `subject_id`."""
    connection = await session.connection()
    entries = [OutboxEntry(target, subject_id)]
    await connection.run_sync(lambda c: outbox.add(c, entries, now=now_ms, lease_ms=0))
