"""Where a batch of alerts is committed, as the engine does it best."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from alert_service.alerts import repository
from alert_service.alerts.repository import alert_rows
from alert_service.alerts.tables import alerts
from common.contracts.alerts import AlertRequest
from common.db_connections import DatabaseUrl, is_sqlite
from common.failpoints import failpoint_async
from common.postgres.commits import GroupCommits, Transaction, open_group_commits
from common.postgres.statements import Statement, unnested
from common.writer import DatabaseWriter

_COLUMNS = tuple(alerts.c[name] for name in repository.ACCEPTED)
_given = unnested("given", _COLUMNS)
_ACCEPT = Statement(
    insert(alerts)
    .from_select(list(repository.ACCEPTED), select(*_given.c).order_by(_given.c.alert_id))
    .on_conflict_do_nothing()
    .returning(alerts.c.alert_id)
)


class AlertStore(Protocol):
    """Keeps alerts; each call is one durable transaction."""

    async def accept(self, batch: Sequence[AlertRequest], *, now_ms: int) -> set[str]:
        """Write the alerts that are new and return their ids; repeats change nothing."""
        ...


@dataclass(frozen=True)
class SqliteAlertStore:
    """Commits in the one thread that writes the file."""

    writer: DatabaseWriter

    async def accept(self, batch: Sequence[AlertRequest], *, now_ms: int) -> set[str]:
        """Write the alerts that are new; see `AlertStore`."""
        return await self.writer.run(lambda c: repository.accept(c, batch, now_ms=now_ms))


@dataclass(frozen=True)
class PostgresAlertStore:
    """Commits a batch with one statement."""

    commits: GroupCommits

    async def accept(self, batch: Sequence[AlertRequest], *, now_ms: int) -> set[str]:
        """Write the alerts that are new; see `AlertStore`."""
        rows = alert_rows(batch, now_ms=now_ms)

        async def accept(running: Transaction) -> set[str]:
            fresh = {row["alert_id"] for row in await running.fetch_for(_ACCEPT, "given", _COLUMNS, rows)}
            await failpoint_async("alerts.before_commit")
            return fresh

        return await self.commits.run(accept)


@asynccontextmanager
async def open_alert_store(url: DatabaseUrl, writer: DatabaseWriter) -> AsyncIterator[AlertStore]:
    """Yield what keeps alerts in the database at `url`, which `writer` writes."""
    if is_sqlite(url):
        await writer.run(repository.warm_up)
        yield SqliteAlertStore(writer)
        return
    async with open_group_commits(url) as commits:
        yield PostgresAlertStore(commits)
