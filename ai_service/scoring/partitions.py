"""Keeps a partition ready for the decisions of this month and the next ones, on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from ai_service.scoring.tables import decisions
from common.background import Loop
from common.clock import epoch_ms
from common.db import writing_engine
from common.db_connections import DatabaseUrl, is_sqlite
from common.postgres.partitions import MonthlyPartitions
from common.writer import DatabaseWriter

EVERY_S = 86_400.0
AGAIN_S = 600.0
IN_DEFAULT = Gauge(
    "assay_decisions_in_default_partition",
    "Decisions that are in no month's partition; 1000 is that many or more. They are moved once a day.",
    multiprocess_mode="livemostrecent",
)
_partitions = MonthlyPartitions(decisions, "created_at_ms")
_log = structlog.get_logger()


@dataclass(frozen=True)
class PartitionKeeper:
    """Makes partitions at the start and once a day; of several processes one does it, and the others need not."""

    database: DatabaseWriter

    async def run(self) -> None:
        """Keep them until cancelled."""
        while True:
            pause = EVERY_S if await self.keep() else AGAIN_S
            await asyncio.sleep(pause)

    async def keep(self) -> bool:
        """Make what is missing, and move what is in the default; return whether that is done."""
        if not await self.make_ahead():
            return False
        try:
            while await self.database.run(_partitions.move_one):
                pass  # a month in each transaction: what is moved stays moved
            left = await self.database.run(_partitions.left)
        except SQLAlchemyError as error:
            _log.warning("partitions.not_moved", error=type(error).__name__)
            return False
        IN_DEFAULT.set(left)
        if left:
            _log.warning("decisions.in_default_partition", decisions=left)
        return True

    async def make_ahead(self) -> bool:
        """Make those of this month and the next; return whether they can be made. Decisions go into the default else."""
        try:
            await self.database.run(lambda c: _partitions.make_ahead(c, now_ms=epoch_ms()))
        except SQLAlchemyError as error:
            _log.warning("partitions.not_made", error=type(error).__name__)
            return False
        return True


@asynccontextmanager
async def partitions_kept(url: DatabaseUrl) -> AsyncIterator[Sequence[Loop]]:
    """Have partitions for what is decided next in the database at `url`; yield what keeps them there.

    It has a connection of its own, on which nothing is ended for taking long: after a restore all months are to be moved.
    """
    if is_sqlite(url):
        yield ()
        return
    database = DatabaseWriter(writing_engine(url, timeouts=None), name="partitions")
    try:
        keeper = PartitionKeeper(database)
        await keeper.make_ahead()
        yield (keeper.run,)
    finally:
        await database.close()
