"""The same transaction again: at the same moment, with another body, after a restart, and at every worker, on both sets."""

import asyncio
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import aiohttp
import pytest
from sqlalchemy import select

from ai_service.scoring.record import feature_vector, parse_record
from ai_service.scoring.tables import decisions
from common.clock import utc_now
from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.settings import Stores
from local_stack.stack import Stack
from tests.e2e.stacks import BOTH_SETS, running_stack, stack_evidence
from tests.factories import transaction_body
from tests.faults.databases import connected
from tests.models import FINE, FRAUD
from tests.waiting import eventually

REPEATS = 24
TRANSACTIONS = 8
WORKERS = 4
TIMEOUT_S = 30.0
REPLAYED = "Idempotent-Replay"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack") / "var", stores=stores) as running:
        yield running


@pytest.fixture(scope="module")
def stack_with_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("workers") / "var"
    with running_stack(folder, stores=Stores.SERVERS, ai_workers=WORKERS) as running:
        yield running


@dataclass(frozen=True)
class Answer:
    """What one request was answered."""

    status: int
    is_replay: bool
    body: dict[str, object]

    @property
    def decision(self) -> tuple[object, ...]:
        """Return what must be the same however often it is answered."""
        return tuple(
            self.body.get(name) for name in ("decision_id", "decision_sequence", "fraud_probability")
        )


@dataclass(frozen=True)
class Payer:
    """An institution that sends payments; each request has a connection of its own."""

    stack: Stack
    login: Login

    async def send(self, bodies: Sequence[dict[str, object]]) -> list[Answer]:
        """Send all at once; a payer that is told to come again does."""
        users = self.stack.url("user_service")
        token = await asyncio.to_thread(access_token, users, self.login)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
            return list(await asyncio.gather(*(self._answer(session, body) for body in bodies)))

    async def _answer(self, session: aiohttp.ClientSession, body: dict[str, object]) -> Answer:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                async with session.post(self.stack.url("ai_service") + "/v1/score", json=body) as response:
                    if response.status != 503:
                        heard = json.loads(await response.read())
                        return Answer(response.status, REPLAYED in response.headers, heard)
                await asyncio.sleep(0.1)

    def saved(self) -> list[str]:
        """Return the transactions that are in the database, each as often as it is."""
        evidence = stack_evidence(self.stack, self.login)
        try:
            return [kept.transaction_id for kept in evidence.saved()]
        finally:
            evidence.close()


def payer_of(stack: Stack) -> Payer:
    return Payer(stack, register_sandbox(stack.url("user_service"), name="Says it again"))


def counted_before(stack: Stack, answer: Answer) -> float:
    """Return how many transactions of its customer a decision had seen, as its record says."""
    query = select(decisions.c.record).where(decisions.c.decision_id == answer.body["decision_id"])
    with connected(stack.storage.databases["ai_service"]) as connection:
        record = parse_record(connection.scalars(query).one())
    return float(feature_vector(record, ["count_by_customer_24h"])[0])


def all_are_counted(stack: Stack, answers: Sequence[Answer]) -> bool:
    """Say whether velocity knows what was decided; what Valkey was too slow for is counted a moment later."""
    of_these = decisions.c.decision_id.in_({answer.decision for answer in answers})
    query = select(decisions.c.decision_id).where(of_these, decisions.c.observed_sequence.is_(None))
    with connected(stack.storage.databases["ai_service"]) as connection:
        return connection.scalars(query).first() is None


def payment(amount: str = FINE) -> dict[str, object]:
    number = secrets.token_hex(6)
    return transaction_body(
        transaction_id=f"tx-{number}",
        event_time=utc_now().isoformat(),
        amount=amount,
        customer_id=f"customer-{number}",
        device_id=f"device-{number}",
        payment_method=None,
        ip_address=None,
    )


@BOTH_SETS
class TestTheSameTransactionAgain:
    async def test_at_the_same_moment_is_decided_once(self, stack: Stack) -> None:
        payer, body = payer_of(stack), payment(FRAUD)

        answers = await payer.send([body] * REPEATS)

        assert {answer.status for answer in answers} == {200}
        assert len({answer.decision for answer in answers}) == 1
        assert sum(not answer.is_replay for answer in answers) == 1
        assert payer.saved() == [body["transaction_id"]]

    async def test_with_another_body_is_a_conflict_whoever_was_first(self, stack: Stack) -> None:
        payer, body = payer_of(stack), payment()
        other = body | {"amount": "31.41"}

        at_once = await payer.send([body, other])
        first, second = (body, other) if at_once[0].status == 200 else (other, body)
        later = [await payer.send([each] * REPEATS) for each in (first, second)]

        assert sorted(answer.status for answer in at_once) == [200, 409]
        assert {answer.status for answer in later[0]} == {200}
        assert {answer.status for answer in later[1]} == {409}
        assert payer.saved() == [body["transaction_id"]]

    async def test_after_ai_service_was_killed_gets_the_saved_decision(self, stack: Stack) -> None:
        payer, body = payer_of(stack), payment(FRAUD)
        (before,) = await payer.send([body])

        stack.kill("ai_service")
        stack.start_part("ai_service")
        await asyncio.to_thread(stack.await_ready, ["ai_service"])
        after = await payer.send([body] * 2)
        (other,) = await payer.send([body | {"amount": "31.41"}])

        assert {answer.decision for answer in after} == {before.decision}
        assert all(answer.is_replay for answer in after)
        assert other.status == 409
        assert payer.saved() == [body["transaction_id"]]


class TestSeveralWorkers:
    async def test_the_same_transactions_at_all_of_them_are_decided_and_counted_once(
        self, stack_with_workers: Stack
    ) -> None:
        payer = payer_of(stack_with_workers)
        customer = secrets.token_hex(6)
        bodies = [payment() | {"customer_id": customer, "device_id": "one"} for _ in range(TRANSACTIONS)]

        answers = await payer.send([body for body in bodies for _ in range(REPEATS)])
        await eventually(lambda: asyncio.to_thread(all_are_counted, stack_with_workers, answers))
        (last,) = await payer.send([payment() | {"customer_id": customer, "device_id": "one"}])

        assert {answer.status for answer in answers} == {200}
        assert len({answer.decision for answer in answers}) == TRANSACTIONS
        # one that was told to come again hears of what it decided as a replay
        assert sum(not answer.is_replay for answer in answers) <= TRANSACTIONS
        assert sorted(payer.saved()) == sorted(str(each["transaction_id"]) for each in (*bodies, last.body))
        assert await asyncio.to_thread(counted_before, stack_with_workers, last) == TRANSACTIONS

    async def test_another_body_at_another_worker_is_a_conflict(self, stack_with_workers: Stack) -> None:
        payer, body = payer_of(stack_with_workers), payment()
        other = body | {"amount": "31.41"}

        at_once = await payer.send([body, other] * REPEATS)
        decided = [answer for answer in at_once if answer.status == 200]
        first, second = (body, other) if at_once.index(decided[0]) % 2 == 0 else (other, body)
        later = [await payer.send([each] * REPEATS) for each in (first, second)]

        assert {answer.status for answer in at_once} == {200, 409}
        assert len({answer.decision for answer in decided}) == 1
        assert {answer.status for answer in later[0]} == {200}
        assert {answer.status for answer in later[1]} == {409}
        assert payer.saved() == [body["transaction_id"]]
