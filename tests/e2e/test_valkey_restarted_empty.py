"""Valkey comes back without what it held: that is never taken for customers whom nobody has seen before."""

import asyncio
import secrets
import shutil
from collections.abc import Iterator

import httpx
import pytest

from ai_service.scoring.record import feature_vector, parse_record
from ai_service.scoring.tables import decisions
from common.clock import utc_now
from local_stack.accounts import access_token, register_sandbox
from local_stack.settings import Stores
from local_stack.stack import Stack
from tests.e2e.stacks import running_stack
from tests.factories import transaction_body
from tests.faults.databases import connected
from tests.models import FINE
from tests.waiting import PATIENCE_S, eventually

BEFORE = 6
KNOWN_AGAIN_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack") / "var", stores=Stores.SERVERS) as running:
        yield running


class Customer:
    """One who pays again and again, and what the decisions knew of that."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        login = register_sandbox(stack.url("user_service"), name="Pays again")
        self._headers = {"Authorization": f"Bearer {access_token(stack.url('user_service'), login)}"}
        self._customer = secrets.token_hex(6)
        self.payments = 0

    async def pay(self) -> float | None:
        """Pay once; return how many payments the decision had seen, or None when it says that it does not know."""
        number = secrets.token_hex(6)
        body = transaction_body(
            transaction_id=f"tx-{number}",
            event_time=utc_now().isoformat(),
            amount=FINE,
            customer_id=self._customer,
            device_id="the same",
            payment_method=None,
            ip_address=None,
        )
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, headers=self._headers) as client:

            async def scored() -> httpx.Response | None:
                answer = await client.post(self._stack.url("ai_service") + "/v1/score", json=body)
                return answer if answer.status_code == 200 else None

            answer = await eventually(scored, timeout_s=PATIENCE_S)
        assert answer is not None
        self.payments += 1
        if "velocity" in answer.json()["degraded"]:
            return None
        return await asyncio.to_thread(self._seen, answer.json()["decision_id"])

    def _seen(self, decision_id: str) -> float:
        query = decisions.select().where(decisions.c.decision_id == decision_id)
        with connected(self._stack.storage.databases["ai_service"]) as connection:
            record = parse_record(bytes(connection.execute(query).one().record))
        return float(feature_vector(record, ["count_by_customer_24h"])[0])


class TestValkeyRestartedEmpty:
    async def test_decisions_know_the_customer_or_say_that_they_do_not(self, stack: Stack) -> None:
        customer = await asyncio.to_thread(Customer, stack)
        before = [await customer.pay() for _ in range(BEFORE)]

        stack.kill("valkey")
        shutil.rmtree(stack.storage.folder / "valkey")
        stack.start_part("valkey")
        await asyncio.to_thread(stack.await_ready, ["valkey"])
        meanwhile: list[tuple[float | None, int]] = []

        async def known_again() -> bool:
            made_before = customer.payments
            meanwhile.append((await customer.pay(), made_before))
            return meanwhile[-1][0] is not None

        await eventually(known_again, timeout_s=KNOWN_AGAIN_WITHIN_S)
        after = await customer.pay()

        assert before == list(range(BEFORE))
        assert [seen for seen, made_before in meanwhile if seen not in {None, made_before}] == []
        assert after == customer.payments - 1
