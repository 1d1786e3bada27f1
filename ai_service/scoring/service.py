"""The whole story of a transaction, top to bottom."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from ai_service.features.store import Located
from ai_service.scoring.deciding import Deciding
from ai_service.scoring.enrichment import Enrichment
from ai_service.scoring.in_flight import Answer, InFlight
from ai_service.scoring.publisher import Publisher
from ai_service.scoring.record import Draft
from ai_service.scoring.replays import Replays
from ai_service.usage.service import QuotaExceededError, UsageMeter
from common.admission import Admission
from common.auth.principal import Principal
from common.batches import Batches, Results
from common.contracts.transactions import Transaction

MAX_TOGETHER = 128  # about ten milliseconds of the event loop


class TransactionScorer:
    """Scores transactions; every door of this service leads here."""

    def __init__(
        self,
        enrichment: Enrichment,
        deciding: Deciding,
        publisher: Publisher,
        usage: UsageMeter,
        replays: Replays,
        *,
        max_waiting: int,
    ) -> None:
        self.admission = Admission(work="score", most=max_waiting)
        self.publisher = publisher
        self._in_flight = InFlight()
        self._enrichment = enrichment
        self._deciding = deciding
        self._usage = usage
        self._replays = replays
        self._batches: Batches[Located, Answer] = Batches(
            self._decide_save_tell, name="decisions", max_batch=MAX_TOGETHER, max_waiting=max_waiting
        )

    def use(self, deciding: Deciding) -> None:
        """Decide with `deciding` from the next batch on; those under way end with what they began with."""
        self._deciding = deciding

    async def score(
        self, transaction: Transaction, caller: Principal, *, now: datetime, request_id: str = ""
    ) -> Answer:
        """Score one transaction, save the decision, then tell the other services.

        Raises `TransactionIdReusedError`, `EventTimeAheadError`, `QuotaExceededError`, `OverloadedError`, and what the
        database raised. A caller may go away: what was begun is finished.
        """
        while running := self._in_flight.find(
            caller.institution_id, transaction
        ):  # the same id is being scored
            if answer := await running:
                return answer
        try:
            place = self._usage.place(caller.institution_id, now=now)
        except QuotaExceededError:
            if replay := await self._decided_before(transaction, caller):
                return replay
            self._usage.refused()
            raise
        with (
            place,
            self.admission.place(),
            self._in_flight.entry(caller.institution_id, transaction) as entry,
        ):
            accepted = self._enrichment.accept(transaction, caller, now=now, request_id=request_id)
            location = await self._enrichment.locate(accepted)
            return entry.set(await self._batches.submit((accepted, location)))

    async def _decided_before(self, transaction: Transaction, caller: Principal) -> Answer | None:
        """Return the answer to a repeat, which costs nothing of the quota; None for what is new."""
        with self.admission.place():
            return await self._replays.find(caller.institution_id, transaction)

    async def _decide_save_tell(
        self, waiting: Sequence[Located]
    ) -> Results[Answer] | asyncio.Task[Results[Answer]]:
        """Do the rest for all who wait together; two such batches are under way at most."""
        decided = await self._deciding.decide_all(waiting)
        drafts = [draft for draft in decided if isinstance(draft, Draft)]
        published = await self.publisher.publish(drafts) if drafts else []
        if len(drafts) == len(waiting):
            return published
        answers = iter(await published if isinstance(published, asyncio.Task) else published)
        return [next(answers) if isinstance(each, Draft) else each for each in decided]

    async def drain(self) -> None:
        """Wait for what is under way; for a graceful stop."""
        await self._batches.drain()
        await self.publisher.drain()
