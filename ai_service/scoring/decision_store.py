"""Where a batch of decisions is committed: behind one collaborator, so that its user knows no engine."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ai_service.scoring.postgres_store import PostgresDecisionStore
from ai_service.scoring.record import Draft
from ai_service.scoring.saving import SavedBatch, Told, forget_told, save_batch, warm_up
from ai_service.usage.service import UsageMeter
from common.db_connections import DatabaseUrl, is_sqlite
from common.postgres.commits import open_group_commits
from common.writer import DatabaseWriter


class DecisionStore(Protocol):
    """Keeps decisions; each call is one durable transaction, and one that failed changed nothing.

    What it raises when its database is away is what SQLAlchemy raises, whoever talks to the database.
    """

    async def save(self, drafts: Sequence[Draft], told: Told, inline: Collection[str]) -> SavedBatch:
        """Commit `drafts` and take away the outbox rows of what was `told`.

        Outbox rows of the targets in `inline` are leased to the one who tells them next; the others are the relay's
        at once. A draft whose transaction was decided before is answered with what was saved then.
        """
        ...

    async def forget(self, told: Told) -> None:
        """Take away the outbox rows of what was `told`."""
        ...

    async def connected(self) -> bool:
        """Readiness: whether what commits reaches its database."""
        ...


@dataclass(frozen=True)
class SqliteDecisionStore:
    """Commits in the one thread that writes the file."""

    writer: DatabaseWriter
    usage: UsageMeter

    async def save(self, drafts: Sequence[Draft], told: Told, inline: Collection[str]) -> SavedBatch:
        """Commit `drafts`; see `DecisionStore`."""
        return await self.writer.run(
            lambda connection: save_batch(connection, drafts, told, usage=self.usage, inline=inline)
        )

    async def forget(self, told: Told) -> None:
        """Take away the outbox rows of what was `told`."""
        await self.writer.run(lambda connection: forget_told(connection, told))

    async def connected(self) -> bool:
        """Readiness: a file is always there, or nothing of this service works."""
        return True


@asynccontextmanager
async def open_decision_store(
    url: DatabaseUrl, writer: DatabaseWriter, usage: UsageMeter
) -> AsyncIterator[DecisionStore]:
    """Yield what commits decisions to the database at `url`, which `writer` writes."""
    if is_sqlite(url):
        await writer.run(warm_up)
        yield SqliteDecisionStore(writer, usage)
        return
    async with open_group_commits(url) as commits:
        yield PostgresDecisionStore(commits, usage)
