"""Brings the velocity state back after a restart, and keeps its snapshot fresh."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import Gauge
from sqlalchemy import Connection

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.snapshot import Snapshot, SnapshotRefusedError, read_snapshot, write_snapshot
from ai_service.features.store import EmbeddedVelocity, Located
from ai_service.features.velocity import LONGEST_WINDOW_US
from ai_service.scoring import repository
from ai_service.scoring.record import parse_record
from common.contracts.geoip import GeoLocation
from common.contracts.institutions import Institution
from common.contracts.transactions import Transaction
from common.metrics import follow
from common.writer import DatabaseWriter

SIZES = ("entities", "transactions", "events", "buckets", "rings")
VELOCITY_SIZE = Gauge(
    "assay_velocity_size", "How much the velocity state keeps.", ["of"], multiprocess_mode="livemax"
)
VELOCITY_EVICTIONS = Gauge(
    "assay_velocity_evictions",
    "Entities evicted since the velocity state began.",
    multiprocess_mode="livemax",
)
_log = structlog.get_logger()


def restore_velocity(connection: Connection, path: Path, *, now_ms: int) -> EmbeddedVelocity:
    """Return the state of the snapshot at `path` with every later decision counted again.

    Without a usable snapshot everything within the longest window is counted again.
    """
    last_sequences = repository.last_sequences(connection)
    try:
        snapshot = _fitting_snapshot(path, last_sequences)
        store, positions = EmbeddedVelocity(snapshot.state), snapshot.positions
    except SnapshotRefusedError as error:
        _log.warning("velocity.snapshot_refused", reason=str(error))
        store, positions = EmbeddedVelocity(), {}
    since_ms = now_ms - LONGEST_WINDOW_US // 1000
    restored = 0
    for institution_id, last in last_sequences.items():
        position = positions.get(institution_id, 0)
        if last <= position:
            continue
        for body in repository.records_after(
            connection, institution_id, sequence=position, since_ms=since_ms
        ):
            _restore(store, body)
            restored += 1
    _log.info("velocity.restored", decisions=restored)
    _expose(store)
    return store


@dataclass(frozen=True)
class SnapshotKeeper:
    """Writes a snapshot every `interval_s` seconds and at a graceful stop."""

    store: EmbeddedVelocity
    reader: DatabaseWriter
    path: Path
    interval_s: float

    async def run(self) -> None:
        """Keep the snapshot fresh until cancelled."""
        while True:
            await asyncio.sleep(self.interval_s)
            await self.write()

    async def write(self) -> None:
        """Write one snapshot.

        Positions are read before the state is copied: what was saved by then had been observed by then. Copying and
        writing happen in a thread, so that nobody waits for them.
        """
        positions = await self.reader.run(repository.last_sequences)
        await asyncio.to_thread(self._write, positions)

    def _write(self, positions: Mapping[str, int]) -> None:
        write_snapshot(self.path, Snapshot(self.store.copy_state(), positions))


def _expose(store: EmbeddedVelocity) -> None:
    """Show the sizes of `store` on /metrics, as they are when somebody looks."""
    for what in SIZES:
        follow(VELOCITY_SIZE.labels(what), partial(_size, store, what))
    follow(VELOCITY_EVICTIONS, partial(_size, store, "evicted"))


def _size(store: EmbeddedVelocity, what: str) -> int:
    return store.sizes()[what]


def _fitting_snapshot(path: Path, last_sequences: Mapping[str, int]) -> Snapshot:
    snapshot = read_snapshot(path)
    if any(position > last_sequences.get(each, 0) for each, position in snapshot.positions.items()):
        raise SnapshotRefusedError("it is of another database, or of one that was restored")
    return snapshot


def located_of(body: bytes) -> Located:
    """Return a decided transaction as it was when it was observed, from its record."""
    record = parse_record(body)
    accepted = record["accepted"]
    return (
        AcceptedTransaction(
            transaction=Transaction.model_validate(record["transaction"]),
            institution=Institution.model_validate(record["institution"]),
            amount_base_minor=accepted["amount_base_minor"],
            received_at=datetime.fromisoformat(accepted["received_at"]),
            accepted_by=accepted["accepted_by"],
            request_id=accepted["request_id"],
        ),
        GeoLocation.model_validate(record["decision"]["enrichment"]["geo"]),
    )


def _restore(store: EmbeddedVelocity, body: bytes) -> None:
    observed = parse_record(body)["accepted"]["observed_sequence"]
    store.restore(*located_of(body), observed_sequence=observed or 0)  # it is null where Valkey was away
