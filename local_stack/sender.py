"""Sends payments to POST /v1/score as a careful client does: in order, several at once, again when asked to."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx
from httpx_aiohttp import HttpxAiohttpClient

from common.contracts.decisions import DeliveryStatus, ScoredTransaction
from common.contracts.transactions import Transaction
from local_stack.errors import StackError
from local_stack.tally import Acknowledgement

CONCURRENCY = 16
REQUEST_TIMEOUT_S = 10.0
RETRY_S = 0.2
MAX_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, and how long the caller waited for it (the try that brought it)."""

    transaction: Transaction
    scored: ScoredTransaction
    latency_ms: float

    @property
    def acknowledgement(self) -> Acknowledgement:
        """Return what the caller may rely on from now on."""
        flagged = self.scored.deliveries.alert is not DeliveryStatus.NOT_NEEDED
        return Acknowledgement(self.scored.transaction_id, self.scored.decision_id, flagged)


class Sender:
    """One caller with `concurrency` connections. A payment that got no answer is sent again under the same id."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        give_up_after_s: float = 60.0,
        concurrency: int = CONCURRENCY,
        on_answer: Callable[[Answer], None] = lambda _answer: None,
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._give_up_after_s = give_up_after_s
        self._concurrency = concurrency
        self._on_answer = on_answer

    async def send(self, transactions: Iterable[Transaction]) -> list[Answer]:
        """Return the answers, in the order they came; raises `StackError` when one is refused or never comes."""
        answers: list[Answer] = []
        waiting = iter(transactions)
        limits = httpx.Limits(max_connections=self._concurrency)
        # the aiohttp transport: plain httpx would make the caller the slowest part
        async with HttpxAiohttpClient(
            base_url=self._url,
            headers=self._headers,
            timeout=REQUEST_TIMEOUT_S,
            limits=limits,
            trust_env=False,
        ) as client:

            async def work() -> None:
                for transaction in waiting:  # shared: each worker takes the next one
                    answer = await self._answer(client, transaction)
                    answers.append(answer)
                    self._on_answer(answer)

            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(self._concurrency):
                        workers.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return answers

    async def _answer(self, client: httpx.AsyncClient, transaction: Transaction) -> Answer:
        deadline = time.monotonic() + self._give_up_after_s
        while True:
            started = time.perf_counter()
            pause = RETRY_S
            try:
                response = await client.post("/v1/score", content=transaction.body)
            except httpx.TransportError as error:
                problem = type(error).__name__
            else:
                if response.status_code == httpx.codes.OK:
                    latency_ms = (time.perf_counter() - started) * 1000
                    scored = ScoredTransaction.model_validate_json(response.content)
                    return Answer(transaction, scored, latency_ms)
                problem = f"{response.status_code} {response.text}"
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise StackError(f"A payment was refused: {problem}")
                pause = _pause(response)
            if time.monotonic() > deadline:
                raise StackError(f"A payment got no answer in {self._give_up_after_s:.0f} s: {problem}")
            await asyncio.sleep(pause)


def _pause(response: httpx.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(MAX_PAUSE_S, float(asked)) if asked.isdigit() else RETRY_S
