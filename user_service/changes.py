"""What changes for all processes of user_service, by topic; each announces in the transaction of its change."""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from common.changes import repository
from common.changes.tables import changes_table
from common.clock import epoch_ms
from common.db import Database
from user_service.tables import Base

changes = changes_table(Base.metadata)


class Topic(StrEnum):
    """What processes watch."""

    SIGNING_KEYS = "signing_keys"


async def read_versions(database: Database) -> Mapping[repository.Subject, int]:
    """Return the version of everything that ever changed."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(lambda c: repository.versions(c, changes))


async def announce(session: AsyncSession, topic: Topic) -> None:
    """Say in the running transaction that `topic` changed; it is called last, like `note_change`."""
    connection = await session.connection()
    await connection.run_sync(lambda c: repository.announce(c, changes, topic, now_ms=epoch_ms()))
