"""Lists come from the replica where there is one; what decides never does."""

import asyncio

from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import update

from ai_service.scoring.tables import decisions
from common.db import writing_engine
from common.ids import new_id
from common.replica import CIRCUIT
from common.tenancy import of_every_tenant
from tests.api.ai_service.conftest import OpenAi
from tests.fake_targets import FakeTargets
from tests.postgres import PostgresServer

DIFFERENT = "as the replica has it"


def circuit_is_open() -> bool:
    return REGISTRY.get_sample_value("assay_circuit_open", {"circuit": CIRCUIT}) == 1


def mark(url: str) -> None:
    """Make a copy tell from the original: every transaction in it has another customer."""
    engine = writing_engine(url)
    with engine.begin() as connection:
        connection.execute(of_every_tenant(update(decisions).values(customer_id=DIFFERENT), "the test"))
    engine.dispose()


class TestLists:
    async def test_come_from_the_replica_and_from_the_primary_once_it_is_gone(
        self, open_ai: OpenAi, targets: FakeTargets, postgres_url: str, postgres_server: PostgresServer
    ) -> None:
        async with open_ai(database_url=SecretStr(postgres_url)) as before:
            scored = await before.score(transaction_id="tx-1")
        primary, copy = postgres_url.rpartition("/")[2], new_id("replica")
        await asyncio.to_thread(
            postgres_server.execute, f"CREATE DATABASE {copy} OWNER assay TEMPLATE {primary}"
        )
        replica = postgres_server.url(copy)
        await asyncio.to_thread(mark, replica)
        path = f"/v1/transactions?customer_id={DIFFERENT}"
        decision = f"/v1/decisions/{scored.json()['decision_id']}"

        async with open_ai(
            database_url=SecretStr(postgres_url), read_database_url=SecretStr(replica)
        ) as reading:
            listed = (await reading.get(path)).json()["items"]
            repeated = await reading.score(transaction_id="tx-1")
            new = await reading.score(transaction_id="tx-2")
            await asyncio.to_thread(postgres_server.drop_database, copy)
            after = await reading.get(path)
            all_of_them = (await reading.get("/v1/transactions")).json()["items"]
            one = await reading.get(decision)
            was_open = circuit_is_open()

        assert [item["transaction"]["transaction_id"] for item in listed] == ["tx-1"]
        assert repeated.headers["Idempotent-Replay"] == "true"
        assert new.status_code == one.status_code == after.status_code == 200
        assert after.json()["items"] == []
        assert [item["transaction"]["transaction_id"] for item in all_of_them] == ["tx-2", "tx-1"]
        assert was_open
