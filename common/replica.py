"""Lists from a read replica, so that they take nothing from what decides; from the primary while it is away.

A replica may lag behind, so nothing that grants rights or recognises a repeat is ever asked here.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import structlog
from prometheus_client import Counter
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from common.circuit import Circuit
from common.db import writing_engine
from common.db_connections import DatabaseUrl, Timeouts
from common.writer import DatabaseWriter

CIRCUIT = "read_replica"
PROBE_EVERY_S = 5.0
TIMEOUTS = Timeouts(statement=4_000, answer=5_000)  # after that the primary still has time to answer
READS = Counter("assay_list_reads_total", "Look-ups for lists, by the database that answered.", ["database"])
ResultT = TypeVar("ResultT")
_log = structlog.get_logger()


class Reads(Protocol):
    """Somebody who runs functions of a connection off the event loop."""

    async def run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Return what `job` returns."""


class Replica:
    """Runs look-ups on a replica; while it fails, and in between its tries, on the primary."""

    def __init__(self, replica: Reads, primary: Reads, *, probe_every_s: float) -> None:
        self._replica = replica
        self._primary = primary
        self._circuit = Circuit(CIRCUIT, failures_to_open=1, probe_every_s=probe_every_s)

    async def run(self, job: Callable[[Connection], ResultT]) -> ResultT:
        """Return what `job` returns; it must change nothing, and may be run a second time."""
        if self._circuit.admits():
            try:
                found = await self._replica.run(job)
            except SQLAlchemyError as error:
                self._circuit.failed()
                _log.warning("read_replica.failed", error=type(error).__name__)
            else:
                self._circuit.succeeded()
                READS.labels("replica").inc()
                return found
        READS.labels("primary").inc()
        return await self._primary.run(job)


@asynccontextmanager
async def open_replica(
    url: DatabaseUrl | None, primary: Reads, *, probe_every_s: float = PROBE_EVERY_S
) -> AsyncIterator[Reads]:
    """Yield who reads lists: the replica at `url`, in sessions that can change nothing; without one, `primary`."""
    if url is None:
        yield primary
        return
    reader = DatabaseWriter(writing_engine(url, timeouts=TIMEOUTS, read_only=True), name="replica-reader")
    try:
        yield Replica(reader, primary, probe_every_s=probe_every_s)
    finally:
        await reader.close()
