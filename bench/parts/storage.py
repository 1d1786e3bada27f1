"""What it costs to keep a decision: the durable commit, and log_service's spool. Wall time, the disk included."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

import ai_service.bootstrap
import log_service.bootstrap
from ai_service.scoring.record import Draft, saved_audit_record
from ai_service.scoring.saving import Saved, save_batch
from ai_service.scoring.tables import outbox
from ai_service.usage.service import UsageMeter
from bench.errors import BenchError
from bench.figures import Figure
from bench.parts.timing import collected
from common.contracts.audit_records import AuditBatch
from common.db import migrate, writing_engine
from common.outbox import Outbox
from common.rate_limits.limiting import NoAllowances
from common.writer import DatabaseWriter
from log_service.archive.repository import Amount
from log_service.archive.spool import AuditSpool
from log_service.archive.spool_store import SqliteSpoolStore

BATCHES = {1: 300, 8: 100, 32: 40, 128: 15}
"""How many batches of each size are committed."""
SPOOL_BATCH = 32
A_LOT = Amount(10_000_000, 2**40)


def storage_figures(home: Path, drafts: Sequence[Draft]) -> Iterator[Figure]:
    """Yield the time to commit a decision, by the size of its batch, and to take its record into the spool."""
    if len(drafts) < sum(size * count for size, count in BATCHES.items()):
        raise BenchError("There are too few payments to commit each of them once.")
    with TemporaryDirectory(dir=home, prefix="parts-") as folder, asyncio.Runner() as runner:
        saved: list[Saved] = []
        for size, us in runner.run(_commit(Path(folder), drafts, saved)):
            yield Figure(
                f"commit_batch_{size}", us, "us", note="a decision, wall time; one durable commit a batch"
            )
        parse, accept = runner.run(_archive(Path(folder), saved))
        yield Figure("archive_parse", parse, "us", note=f"a record, in batches of {SPOOL_BATCH}")
        yield Figure("archive_spool", accept, "us", note="a record, wall time; one durable commit a batch")


async def _commit(folder: Path, drafts: Sequence[Draft], saved: list[Saved]) -> list[tuple[int, float]]:
    url = f"sqlite:///{folder / 'ai_service.db'}"
    migrate(url, migrations=ai_service.bootstrap.MIGRATIONS)
    writer = DatabaseWriter(writing_engine(url))
    usage = UsageMeter(NoAllowances(), Outbox(outbox))
    begin, found = 0, []
    for size, count in BATCHES.items():
        chunks = [drafts[begin + size * number : begin + size * (number + 1)] for number in range(count)]
        begin += size * count
        with collected():
            started = time.perf_counter()
            for chunk in chunks:
                batch = await writer.run(lambda c, chunk=chunk: save_batch(c, chunk, {}, usage=usage))  # type: ignore[misc]
                saved += [entry for entry in batch.entries if isinstance(entry, Saved)]
            found.append((size, (time.perf_counter() - started) * 1e6 / (size * count)))
    await writer.close()
    return found


async def _archive(folder: Path, saved: Sequence[Saved]) -> tuple[float, float]:
    url = f"sqlite:///{folder / 'log_service.db'}"
    migrate(url, migrations=log_service.bootstrap.MIGRATIONS)
    records = [saved_audit_record(entry.body) for entry in saved]
    bodies = [
        orjson.dumps({"records": records[begin : begin + SPOOL_BATCH]})
        for begin in range(0, len(records), SPOOL_BATCH)
    ]
    with collected():
        started = time.thread_time()
        batches = [AuditBatch.model_validate_json(body) for body in bodies]
        parse_s = time.thread_time() - started
    writer = DatabaseWriter(writing_engine(url))
    spool = AuditSpool(
        SqliteSpoolStore(writer), most=A_LOT, spooled=Amount(0, 0), wake_after=len(records) + 1
    )
    with collected():
        started = time.perf_counter()
        for batch in batches:
            await spool.accept(batch.records, writer="ai_service")
        accept_s = time.perf_counter() - started
    await writer.close()
    return parse_s * 1e6 / len(records), accept_s * 1e6 / len(records)
