"""save_then_tell(): one durable commit and one gather for all transactions that wait together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import structlog

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.clients.logs import TARGET as AUDIT
from ai_service.clients.logs import LogClient
from ai_service.features.store import VelocityStore
from ai_service.scoring import repository
from ai_service.scoring.in_flight import Answer, TransactionIdReusedError
from ai_service.scoring.record import Draft, alert_request, audit_record, scored_transaction
from ai_service.scoring.repository import AlreadySaved, Saved
from common.batches import Batches
from common.contracts.decisions import Deliveries, DeliveryStatus
from common.http import Delivery
from common.writer import DatabaseWriter

FLUSH_S = 1.0
ResultT = TypeVar("ResultT")
_log = structlog.get_logger()


class Publisher:
    """Saves decisions and then tells alert_service and log_service, a batch at a time.

    Nothing is told before it is saved. What could not be told now stays in the outbox, where the relay finds it.
    """

    def __init__(
        self,
        writer: DatabaseWriter,
        *,
        alerts: AlertClient,
        logs: LogClient,
        velocity: VelocityStore,
        max_waiting: int,
    ) -> None:
        self._writer = writer
        self._alerts = alerts
        self._logs = logs
        self._velocity = velocity
        self._batches: Batches[Draft, Answer] = Batches(
            self.publish, name="decisions", max_waiting=max_waiting
        )
        self._told: dict[str, set[str]] = {ALERT: set(), AUDIT: set()}

    async def save_then_tell(self, draft: Draft) -> Answer:
        """Return the answer once the decision is durable and the others were told, or were tried to.

        Raises `OverloadedError`, `TransactionIdReusedError`, and what the database raised. The caller may go away:
        the batch goes on.
        """
        return await self._batches.submit(draft)

    def place(self) -> AbstractContextManager[None]:
        """Hold a place for one transaction, before it is counted anywhere; raises `OverloadedError`."""
        return self._batches.place()

    async def publish(self, drafts: Sequence[Draft]) -> Sequence[Answer | Exception]:
        """Commit the batch, then tell about all of it in parallel."""
        saved = await self._save(drafts)
        fresh = [entry for entry in saved if isinstance(entry, Saved)]
        flagged = [entry for entry in fresh if entry.draft.flagged]
        alert, audit = await asyncio.gather(self._raise_alerts(flagged), self._archive(fresh))
        self._note(alert, [entry.draft.decision_id for entry in flagged])
        self._note(audit, [entry.draft.decision_id for entry in fresh])
        return [_answer(draft, entry, alert, audit) for draft, entry in zip(drafts, saved, strict=True)]

    async def _raise_alerts(self, flagged: Sequence[Saved]) -> Delivery:
        return await _told(
            ALERT, lambda: self._alerts.raise_alerts([alert_request(each.draft.record) for each in flagged])
        )

    async def _archive(self, fresh: Sequence[Saved]) -> Delivery:
        return await _told(
            AUDIT, lambda: self._logs.archive([audit_record(each.draft.record, each.body) for each in fresh])
        )

    async def flush(self) -> None:
        """Once a second, write down what was told, so that a quiet hour leaves no rows; runs until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._write_told()

    async def drain(self) -> None:
        """Wait for running batches and write down what they told; for a graceful stop."""
        await self._batches.drain()
        await self._write_told()

    async def _write_told(self) -> None:
        if any(self._told.values()):
            await self._committed(repository.forget_told)

    async def _save(self, drafts: Sequence[Draft]) -> list[Saved | AlreadySaved]:
        saved = await self._committed(partial(repository.save_batch, drafts=drafts))
        for draft in drafts:
            self._velocity.saved(draft.accepted.institution_id, [draft.accepted.transaction.transaction_id])
        return saved

    async def _committed(self, write: Callable[..., ResultT]) -> ResultT:
        """Run `write` in one transaction that also takes away what was told; a failed one changes nothing."""
        told = {target: tuple(decision_ids) for target, decision_ids in self._told.items()}
        result = await self._writer.run(lambda connection: write(connection, told=told))
        for target, decision_ids in told.items():
            self._told[target].difference_update(decision_ids)
        return result

    def told_lately(self) -> frozenset[tuple[str, str]]:
        """Return the (target, decision id) pairs that were told while their outbox rows still stand."""
        return frozenset(
            (target, each) for target, decision_ids in self._told.items() for each in decision_ids
        )

    def _note(self, delivery: Delivery, decision_ids: Sequence[str]) -> None:
        if delivery.delivered:
            self._told[delivery.target].update(decision_ids)


async def _told(target: str, tell: Callable[[], Awaitable[Delivery]]) -> Delivery:
    """Tell, and report instead of raising: what is saved stays saved, whatever happens while others are told."""
    try:
        return await tell()
    except Exception as error:  # noqa: BLE001 - the boundary after the commit; the relay tries again
        _log.exception("delivery.failed", target=target)
        return Delivery(target, delivered=False, error=type(error).__name__)


def _answer(
    draft: Draft, entry: Saved | AlreadySaved, alert: Delivery, audit: Delivery
) -> Answer | Exception:
    if isinstance(entry, Saved):
        deliveries = Deliveries(
            alert=_status(alert) if draft.flagged else DeliveryStatus.NOT_NEEDED, audit=_status(audit)
        )
        return Answer(scored_transaction(draft.answer, deliveries), replayed=False)
    if entry.body_sha256 != draft.body_sha256:
        return TransactionIdReusedError()
    return Answer(entry.scored(), replayed=True)


def _status(delivery: Delivery) -> DeliveryStatus:
    return DeliveryStatus.DELIVERED if delivery.delivered else DeliveryStatus.PENDING
