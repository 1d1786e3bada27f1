"""Counts decisions that were made while velocity could not count: one process at a time, in the order committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy import Connection

from ai_service.features.shared_store import SharedVelocity
from ai_service.features.store import Located
from ai_service.scoring import velocity_repository as repository
from ai_service.scoring.rebuilding import Lease
from ai_service.scoring.recovery import located_of
from ai_service.scoring.velocity_repository import UnobservedRecord
from common.writer import DatabaseWriter

_log = structlog.get_logger()


@dataclass(frozen=True)
class CatchingUp:
    """Gives decisions their observed sequence later. What was counted once is not counted again."""

    velocity: SharedVelocity
    reader: DatabaseWriter
    writer: DatabaseWriter

    async def run(self, institution_id: str, lease: Lease) -> int:
        """Count all that wait, page by page; return how many. Ends early where there is no state to count in."""
        counted = after = 0
        while True:
            await lease.keep()
            page, located = await self.reader.run(partial(_read, institution_id=institution_id, after=after))
            if not page:
                break
            found = await self.velocity.count(located)
            numbers = {
                record.decision_sequence: observed.observed_sequence
                for record, observed in zip(page, found, strict=True)
                if observed is not None
            }
            await self.writer.run(
                partial(repository.note_observed, institution_id=institution_id, observed=numbers)
            )
            counted, after = counted + len(numbers), page[-1].decision_sequence
            if len(numbers) < len(page):
                break
        if counted:
            _log.info("velocity.caught_up", institution_id=institution_id, decisions=counted)
        return counted


def _read(
    connection: Connection, institution_id: str, after: int
) -> tuple[Sequence[UnobservedRecord], list[Located]]:
    page = repository.unobserved_page(connection, institution_id, after=after)
    return page, [located_of(each.body) for each in page]
