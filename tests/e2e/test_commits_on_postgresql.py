"""COMMIT takes long or fails in PostgreSQL: nobody hears of anything that is not committed."""

import asyncio
import secrets
from collections.abc import Iterator

import httpx
import pytest

from common.clock import utc_now
from local_stack.settings import Stores
from tests.factories import transaction_body
from tests.faults.commits_in_postgresql import failing_in_postgresql, held_in_postgresql
from tests.faults.databases import connected
from tests.faults.evidence import waiting
from tests.faults.stack import Caller, FaultyStack, faulty_stack
from tests.models import FRAUD
from tests.waiting import PATIENCE_S, eventually

HELD_S = 1.0
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyStack]:
    with faulty_stack(tmp_path_factory.mktemp("stack") / "var", stores=Stores.SERVERS) as running:
        yield running


@pytest.fixture(scope="module")
def caller(stack: FaultyStack) -> Caller:
    return stack.new_caller("Commits")


def payment() -> dict[str, object]:
    number = secrets.token_hex(6)
    return transaction_body(
        transaction_id=f"tx-{number}",
        event_time=utc_now().isoformat(),
        amount=FRAUD,
        customer_id=f"customer-{number}",
        device_id=f"device-{number}",
        payment_method=None,
        ip_address=None,
    )


def registration() -> dict[str, object]:
    admin = {
        "email": f"admin-{secrets.token_hex(5)}@assay.example",
        "password": secrets.token_urlsafe(18),
        "full_name": "Ada Okafor",
    }
    return {"name": "Harbour", "mode": "sandbox", "base_currency": "EUR", "admin": admin}


class Asker:
    """Sends what makes `ai_service` or `user_service` commit."""

    def __init__(self, stack: FaultyStack, caller: Caller) -> None:
        self._stack = stack.stack
        self._headers = {"Authorization": f"Bearer {caller.token}"}

    async def score(self, body: dict[str, object]) -> httpx.Response:
        return await self._post("ai_service", "/v1/score", body, self._headers)

    async def register(self, body: dict[str, object]) -> httpx.Response:
        return await self._post("user_service", "/v1/institutions", body, {})

    async def _post(
        self, service: str, path: str, body: dict[str, object], headers: dict[str, str]
    ) -> httpx.Response:
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, headers=headers) as client:
            return await client.post(self._stack.url(service) + path, json=body)

    async def until_scored(self, body: dict[str, object]) -> httpx.Response:
        async def scored() -> httpx.Response | None:
            answer = await self.score(body)
            return answer if answer.status_code == 200 else None

        found = await eventually(scored, timeout_s=PATIENCE_S)
        assert found is not None
        return found


@pytest.fixture
def asker(stack: FaultyStack, caller: Caller) -> Asker:
    return Asker(stack, caller)


def is_refusal(answer: httpx.Response) -> bool:
    """Say whether it tells the caller to come again, and nothing else."""
    return (
        answer.status_code == 503
        and answer.headers["Content-Type"].startswith(PROBLEM)
        and "Retry-After" in answer.headers
    )


def saved(stack: FaultyStack, body: dict[str, object]) -> int:
    with connected(stack.sources.database_url) as connection:
        query = "SELECT count(*) FROM idempotency_keys WHERE transaction_id = %s"
        return int(connection.exec_driver_sql(query, (body["transaction_id"],)).scalar_one())


class TestHeldCommits:
    async def test_a_payment_is_not_acknowledged_before(self, stack: FaultyStack, asker: Asker) -> None:
        body = payment()

        with held_in_postgresql(stack, "ai_service"):
            answer = await asker.score(body)
            saved_meanwhile = await asyncio.to_thread(saved, stack, body)
        again = await asker.until_scored(body)

        assert is_refusal(answer)
        assert saved_meanwhile == 0
        assert again.json()["transaction_id"] == body["transaction_id"]
        assert await asyncio.to_thread(saved, stack, body) == 1

    async def test_a_registration_is_answered_after(self, stack: FaultyStack, asker: Asker) -> None:
        with held_in_postgresql(stack, "user_service") as let_go:
            asked = asyncio.ensure_future(asker.register(registration()))
            done, _ = await asyncio.wait({asked}, timeout=HELD_S)
            await asyncio.to_thread(let_go)
            answer = await asked

        assert not done
        assert answer.status_code == 201


class TestFailingCommits:
    async def test_a_payment_is_not_acknowledged(self, stack: FaultyStack, asker: Asker) -> None:
        body = payment()

        with failing_in_postgresql(stack, "ai_service"):
            answers = [await asker.score(body) for _ in range(3)]
            saved_meanwhile = await asyncio.to_thread(saved, stack, body)
        again = await asker.until_scored(body)

        assert all(map(is_refusal, answers))
        assert saved_meanwhile == 0
        assert "Idempotent-Replay" not in again.headers

    async def test_a_registration_is_not_acknowledged(self, stack: FaultyStack, asker: Asker) -> None:
        body = registration()

        with failing_in_postgresql(stack, "user_service"):
            refused = await asker.register(body)
        again = await asker.register(body)

        assert is_refusal(refused)
        assert again.status_code == 201

    @pytest.mark.parametrize(("service", "delivery"), [("alert_service", "alert"), ("log_service", "audit")])
    async def test_what_the_others_could_not_keep_counts_as_not_delivered_and_is_told_again(
        self, stack: FaultyStack, caller: Caller, asker: Asker, service: str, delivery: str
    ) -> None:
        with failing_in_postgresql(stack, service):
            answer = await asker.until_scored(payment())

        async def nothing_waits() -> bool:
            return not await asyncio.to_thread(waiting, stack.sources, caller.scope)

        assert answer.json()["deliveries"][delivery] == "pending"
        assert await eventually(nothing_waits, timeout_s=60)
