"""Where batches of records are committed to the spool, as the engine does it best."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from sqlalchemy import ARRAY, Select, String, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from common.db_connections import DatabaseUrl, is_sqlite
from common.failpoints import failpoint_async
from common.postgres.commits import GroupCommits, Transaction, open_group_commits
from common.postgres.statements import Statement, transposed, unnested
from common.tenancy import of_every_tenant
from common.writer import DatabaseWriter
from log_service.archive import repository
from log_service.archive.records import SpoolRecord
from log_service.archive.repository import KEPT, Accepted, sorted_out
from log_service.archive.tables import bodies, records

_ACCEPTING = "a batch of records is of many institutions; each is compared with its own envelope"
_RECORDS, _BODIES = tuple(records.c), tuple(bodies.c)


def _knowing() -> Select[str]:
    wanted = any_(bindparam("record_ids", type_=ARRAY(String())))
    return of_every_tenant(select(*KEPT).where(records.c.record_id == wanted), _ACCEPTING)


def _keeping() -> Select[int]:
    rows, texts = unnested("rows", _RECORDS), unnested("texts", _BODIES)
    kept = insert(records).from_select([each.name for each in _RECORDS], select(*rows.c)).cte("kept")
    added = (
        insert(bodies)
        .from_select([each.name for each in _BODIES], select(*texts.c))
        .returning(bodies.c.record_id)
        .cte("added")
    )
    return select(func.count().label("added")).select_from(added).add_cte(kept)


_KNOW = Statement(_knowing())
_KEEP = Statement(_keeping())


class SpoolStore(Protocol):
    """Keeps records with their bodies; each call is one durable transaction, one at a time."""

    async def accept(self, batches: Sequence[Sequence[SpoolRecord]]) -> Accepted:
        """Keep what is new in each batch. A batch with a conflict is refused as a whole and gets its error."""
        ...


class SqliteSpoolStore:
    """Commits in the one thread that writes the file."""

    def __init__(self, writer: DatabaseWriter) -> None:
        self._writer = writer

    async def accept(self, batches: Sequence[Sequence[SpoolRecord]]) -> Accepted:
        """Keep what is new; see `SpoolStore`."""
        return await self._writer.run(lambda connection: repository.accept(connection, batches))


class PostgresSpoolStore:
    """Commits with two statements. One commit at a time: what is new is found out before it is written."""

    def __init__(self, commits: GroupCommits) -> None:
        self._commits = commits
        self._turn = asyncio.Lock()

    async def accept(self, batches: Sequence[Sequence[SpoolRecord]]) -> Accepted:
        """Keep what is new; see `SpoolStore`."""
        async with self._turn:
            return await self._commits.run(lambda running: _accept(running, batches))


async def _accept(running: Transaction, batches: Sequence[Sequence[SpoolRecord]]) -> Accepted:
    record_ids = [record.record_id for batch in batches for record in batch]
    known: dict[str, Mapping[str, object]] = {
        row["record_id"]: dict(row) for row in await running.fetch(_KNOW, record_ids=record_ids)
    }
    fresh, accepted = sorted_out(batches, known)
    if fresh:
        await _keep(running, fresh)
    await failpoint_async("spool.before_commit")
    return accepted


async def _keep(running: Transaction, fresh: Sequence[SpoolRecord]) -> None:
    rows = [tuple(record.row.get(each.name) for each in _RECORDS) for record in fresh]
    texts = [(record.record_id, record.body) for record in fresh]
    await running.fetch(_KEEP, **transposed("rows", _RECORDS, rows), **transposed("texts", _BODIES, texts))


@asynccontextmanager
async def open_spool_store(url: DatabaseUrl, writer: DatabaseWriter) -> AsyncIterator[SpoolStore]:
    """Yield what keeps records in the database at `url`, which `writer` writes."""
    if is_sqlite(url):
        await writer.run(repository.warm_up)
        yield SqliteSpoolStore(writer)
        return
    async with open_group_commits(url) as commits:
        yield PostgresSpoolStore(commits)
