"""publish(): one durable commit and one gather for all decisions that were made together."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from ai_service.clients.alerts import TARGET as ALERT
from ai_service.clients.alerts import AlertClient
from ai_service.features.store import VelocityStore
from ai_service.scoring.decision_store import DecisionStore
from ai_service.scoring.in_flight import Answer, TransactionIdReusedError
from ai_service.scoring.record import (
    Draft,
    alert_request,
    answer_bytes,
    audit_record,
    parse_record,
)
from ai_service.scoring.repository import AlreadySaved
from ai_service.scoring.saving import Became, Lost, NotTaken, Saved, Told
from ai_service.scoring.telling import SLOW_S, Telling
from ai_service.usage.service import UsageMeter
from common.batches import Results
from common.circuit import Circuit
from common.clients.logs import TARGET as AUDIT
from common.clients.logs import LogClient
from common.clock import utc_now
from common.contracts.decisions import Deliveries, DeliveryStatus
from common.delivery import Delivery
from common.errors import UnavailableError
from common.failpoints import failpoint

FLUSH_S = 1.0
_log = structlog.get_logger()
_STATUS = {True: DeliveryStatus.DELIVERED, False: DeliveryStatus.PENDING}


class Publisher:
    """Saves decisions and then tells alert_service and log_service, a batch at a time.

    Nothing is told before it is saved. What could not be told now stays in the outbox, where the relay finds it.
    """

    def __init__(
        self,
        store: DecisionStore,
        *,
        alerts: AlertClient,
        logs: LogClient,
        circuits: Mapping[str, Circuit],
        velocity: VelocityStore,
        usage: UsageMeter,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._logs = logs
        self._alert_telling = Telling(ALERT, circuits[ALERT])
        self._audit_telling = Telling(AUDIT, circuits[AUDIT])
        self._velocity = velocity
        self._usage = usage
        self._told: dict[str, set[str]] = {ALERT: set(), AUDIT: set()}

    async def publish(self, drafts: Sequence[Draft]) -> Results[Answer] | asyncio.Task[Results[Answer]]:
        """Commit the batch, then tell about all of it in parallel; slow telling holds up this batch alone.

        Returns for each its answer, `TransactionIdReusedError` or `QuotaExceededError`; raises what the database raised.
        """
        saved = await self._save(drafts)
        answers = asyncio.create_task(self._tell(drafts, saved))
        await asyncio.wait({answers}, timeout=SLOW_S)
        return answers.result() if answers.done() else answers

    async def _tell(self, drafts: Sequence[Draft], saved: Sequence[Became]) -> Results[Answer]:
        fresh = [entry for entry in saved if isinstance(entry, Saved)]
        flagged = [entry for entry in fresh if entry.draft.flagged]
        alert, audit = await asyncio.gather(self._raise_alerts(flagged), self._archive(fresh))
        failpoint("decisions.after_telling")
        self._note(alert, [entry.draft.decision_id for entry in flagged])
        self._note(audit, [entry.draft.decision_id for entry in fresh])
        return [self._answer(draft, entry, alert, audit) for draft, entry in zip(drafts, saved, strict=True)]

    def _answer(self, draft: Draft, entry: Became, alert: Delivery, audit: Delivery) -> Answer | Exception:
        if isinstance(entry, NotTaken):
            return self._usage.none_left(utc_now())
        if isinstance(entry, Lost):
            _log.error(
                "decision.missing",
                institution_id=draft.accepted.institution_id,
                transaction_id=draft.accepted.transaction.transaction_id,
            )
            return UnavailableError("This transaction was decided before, and its decision is not there.")
        return _answer(draft, entry, alert, audit)

    async def _raise_alerts(self, flagged: Sequence[Saved]) -> Delivery:
        if not flagged:
            return Delivery(ALERT, delivered=True)
        return await self._alert_telling.tell(
            lambda: self._alerts.raise_alerts([alert_request(parse_record(each.body)) for each in flagged])
        )

    async def _archive(self, fresh: Sequence[Saved]) -> Delivery:
        if not fresh:
            return Delivery(AUDIT, delivered=True)
        return await self._audit_telling.tell(
            lambda: self._logs.archive([_audit_record(each) for each in fresh])
        )

    async def flush(self) -> None:
        """Once a second, write down what was told, so that a quiet hour leaves no rows; runs until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._write_told()

    async def drain(self) -> None:
        """Write down what was told; for a graceful stop."""
        await self._write_told()

    async def connected(self) -> bool:
        """Readiness: whether decisions can be committed."""
        return await self._store.connected()

    async def _write_told(self) -> None:
        told = self._told_now()
        if any(told.values()):
            await self._store.forget(told)
            self._forgotten(told)

    async def _save(self, drafts: Sequence[Draft]) -> list[Became]:
        failpoint("decisions.before_begin")
        inline = [
            telling.target for telling in (self._alert_telling, self._audit_telling) if telling.is_worth_it
        ]
        told = self._told_now()
        saved = await self._store.save(drafts, told, inline)
        self._forgotten(told)
        self._usage.committed(saved.usage)
        failpoint("decisions.after_commit")
        self._velocity.saved(
            [
                (draft.accepted.institution_id, draft.accepted.transaction.transaction_id)
                for draft, entry in zip(drafts, saved.entries, strict=True)
                if not isinstance(entry, NotTaken)  # a later try of it is not counted again
            ]
        )
        return saved.entries

    def _told_now(self) -> Told:
        return {target: tuple(decision_ids) for target, decision_ids in self._told.items()}

    def _forgotten(self, told: Told) -> None:
        """Take out what a commit took away from the outbox; one that failed changed nothing."""
        for target, decision_ids in told.items():
            self._told[target].difference_update(decision_ids)

    def told_lately(self) -> frozenset[tuple[str, str]]:
        """Return the (target, decision id) pairs that were told while their outbox rows still stand."""
        return frozenset(
            (target, each) for target, decision_ids in self._told.items() for each in decision_ids
        )

    def _note(self, delivery: Delivery, decision_ids: Sequence[str]) -> None:
        if delivery.delivered:
            self._told[delivery.target].update(decision_ids)


def _audit_record(saved: Saved) -> dict[str, Any]:
    draft = saved.draft
    return audit_record(draft.record["institution"], draft.answer, draft.accepted.request_id, saved.body)


def _answer(
    draft: Draft, entry: Saved | AlreadySaved, alert: Delivery, audit: Delivery
) -> Answer | Exception:
    if isinstance(entry, Saved):
        told = _STATUS[alert.delivered] if draft.flagged else DeliveryStatus.NOT_NEEDED
        deliveries = Deliveries.model_construct(alert=told, audit=_STATUS[audit.delivered])
        return _made(draft.answer, deliveries, replayed=False)
    if entry.body_sha256 != draft.body_sha256:
        return TransactionIdReusedError()
    return replay_of(entry)


def replay_of(saved: AlreadySaved) -> Answer:
    """Return what a transaction that was decided before is answered."""
    return _made(saved.answer, saved.deliveries, replayed=True)


def _made(answer: Mapping[str, Any], deliveries: Deliveries, *, replayed: bool) -> Answer:
    facts = {name: answer[name] for name in ("decision_id", "outcome", "risk_score")}
    return Answer(answer_bytes(answer, deliveries), facts, replayed)
