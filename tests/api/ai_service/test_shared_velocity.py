"""ai_service with its velocity in Valkey: away, back, emptied, paused; caught up and rebuilt."""

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy import create_engine, select

from ai_service.rebuild_velocity import RebuildFailedError, main, rebuild_velocity
from ai_service.scoring.tables import decisions
from ai_service.scoring.velocity_upkeep import check_memory
from ai_service.settings import AiSettings
from common.errors import StartupError
from common.settings import Environment
from common.valkey.calls import open_valkey
from tests.api.ai_service.conftest import Ai, OpenAi
from tests.fake_targets import FakeTargets
from tests.integration.ai_service.shared import limited_user
from tests.servers import free_port
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import eventually

COUNT = '"count_by_customer_24h":'
LEASE = "assay:{ins_test}:velocity:v1:lease"
ENTITY_KEY = re.compile(rb"^.*?:v1:[0-9a-f]{8}:e", re.DOTALL)


@pytest.fixture
def open_shared_ai(open_ai: OpenAi, monkeypatch: pytest.MonkeyPatch) -> OpenAi:
    """Start ai_service with a quick look after its velocity."""
    monkeypatch.setattr("ai_service.scoring.velocity_upkeep.ROUND_S", 0.05)
    return open_ai


def numbers(tmp_path: Path) -> dict[str, int | None]:
    """Return the observed sequence of every transaction in the database."""
    engine = create_engine(f"sqlite:///{tmp_path}/ai.db")
    with engine.connect() as connection:
        rows = connection.execute(select(decisions.c.transaction_id, decisions.c.observed_sequence)).all()
    engine.dispose()
    return {row.transaction_id: row.observed_sequence for row in rows}


async def all_counted(tmp_path: Path) -> dict[str, int | None]:
    """Wait until every decision has its number."""

    async def look() -> dict[str, int | None]:
        found = await asyncio.to_thread(numbers, tmp_path)
        return {} if None in found.values() else found

    return await eventually(look)


async def is_known(ai: Ai, name: str) -> dict[str, Any]:
    """Score new transactions of another customer until velocity is known again; return the answer."""
    tries = iter(range(10_000))

    async def look() -> dict[str, Any] | None:
        number = next(tries)
        answer = await ai.score(transaction_id=f"{name}-{number}", customer_id=f"other-{name}")
        body: dict[str, Any] = answer.json()
        return None if body["degraded"] else body

    found = await eventually(look)
    assert found is not None
    return found


class TestScoring:
    async def test_counts_in_valkey_and_what_other_processes_counted_too(
        self, open_shared_ai: OpenAi, targets: FakeTargets, postgres_url: str, valkey_url: str
    ) -> None:
        both: dict[str, Any] = {"database_url": postgres_url, "valkey_url": valkey_url}
        async with open_shared_ai(**both) as one, open_shared_ai(**both) as two:
            for number in range(4):
                await (one, two)[number % 2].score(transaction_id=f"tx-{number}")

        assert [f"{COUNT}{number}.0" in targets.records[number]["body"] for number in range(4)] == [True] * 4
        assert '"observed_sequence":4' in targets.records[3]["body"]

    async def test_the_same_id_at_all_processes_at_once_is_counted_and_decided_once(
        self, open_shared_ai: OpenAi, targets: FakeTargets, postgres_url: str, valkey_url: str
    ) -> None:
        both: dict[str, Any] = {"database_url": postgres_url, "valkey_url": valkey_url}
        async with open_shared_ai(**both) as one, open_shared_ai(**both) as two:
            answers = await asyncio.gather(
                *((one, two)[number % 2].score(transaction_id="same") for number in range(20))
            )
            await one.score(transaction_id="next")

        assert len({answer.json()["decision_id"] for answer in answers}) == 1
        assert f"{COUNT}1.0" in targets.records[-1]["body"]


class TestValkeyAway:
    async def test_is_said_and_nothing_is_taken_for_known_and_all_are_counted_when_it_is_back(
        self, open_shared_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        port = free_port()
        async with open_shared_ai(valkey_url=f"valkey://127.0.0.1:{port}/0") as ai:
            answers = [(await ai.score(transaction_id=f"tx-{number}")) for number in range(5)]

            assert [answer.status_code for answer in answers] == [200] * 5
            assert [answer.json()["degraded"] for answer in answers] == [["velocity"]] * 5
            assert f"{COUNT}null" in targets.records[-1]["body"]
            assert '"days_since_first_by_customer":null' in targets.records[-1]["body"]
            assert '"observed_sequence":null' in targets.records[-1]["body"]
            assert numbers(tmp_path) == {f"tx-{number}": None for number in range(5)}
            with running_valkey(port=port):
                found = await all_counted(tmp_path)
                await is_known(ai, "back")
                await ai.score(transaction_id="next")

        assert sorted(found.items(), key=lambda item: item[1] or 0) == [
            (f"tx-{number}", number + 1) for number in range(5)
        ]
        assert f"{COUNT}5.0" in targets.records[-1]["body"]

    async def test_for_a_pause_is_not_counted_twice(
        self, open_shared_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        with running_valkey() as server:
            async with open_shared_ai(valkey_url=server.url) as ai:
                await ai.score(transaction_id="before")
                with paused(server):
                    answers = [await ai.score(transaction_id=f"paused-{number}") for number in range(4)]
                await all_counted(tmp_path)
                await is_known(ai, "after")
                await ai.score(transaction_id="next")

        assert [answer.json()["degraded"] for answer in answers] == [["velocity"]] * 4
        assert f"{COUNT}5.0" in targets.records[-1]["body"]

    async def test_that_comes_back_empty_is_rebuilt_before_it_is_read(
        self, open_shared_ai: OpenAi, targets: FakeTargets, tmp_path: Path
    ) -> None:
        port = free_port()
        async with open_shared_ai(valkey_url=f"valkey://127.0.0.1:{port}/0") as ai:
            with running_valkey(port=port):
                for number in range(6):
                    await ai.score(transaction_id=f"tx-{number}")
            await ai.score(transaction_id="away")
            with running_valkey(port=port):
                await is_known(ai, "back")
                await all_counted(tmp_path)
                await ai.score(transaction_id="next")

        known = [
            record["body"] for record in targets.records if '"customer_id":"customer-1"' in record["body"]
        ]
        assert f"{COUNT}7.0" in known[-1]
        assert not [body for body in known[1:] if f"{COUNT}0.0" in body]

    @pytest.mark.parametrize("is_noticed_by", ["who starts", "who runs"])
    async def test_that_went_back_to_an_earlier_moment_is_rebuilt(
        self,
        is_noticed_by: str,
        open_shared_ai: OpenAi,
        targets: FakeTargets,
        valkey_url: str,
        valkey_server: ValkeyServer,
    ) -> None:
        async with open_shared_ai(valkey_url=valkey_url) as ai:
            for number in range(3):
                await ai.score(transaction_id=f"tx-{number}")
            if is_noticed_by == "who runs":
                await asyncio.sleep(0.5)  # some looks
                state, generation = set_back(valkey_server)
                await eventually(lambda: _is_of_another_generation(valkey_server, state, generation))
        if is_noticed_by == "who starts":
            state, generation = set_back(valkey_server)

        async with open_shared_ai(valkey_url=valkey_url) as ai:
            await eventually(lambda: _is_of_another_generation(valkey_server, state, generation))
            await ai.score(transaction_id="next")

        assert f"{COUNT}3.0" in targets.records[-1]["body"]


class TestOverPostgres:
    async def test_all_of_it_works_for_a_user_of_valkey_who_may_do_no_more_than_needed(
        self,
        open_shared_ai: OpenAi,
        targets: FakeTargets,
        postgres_url: str,
        valkey_url: str,
        valkey_server: ValkeyServer,
    ) -> None:
        both: dict[str, Any] = {"database_url": postgres_url, "valkey_url": limited_user(valkey_server)}
        async with open_shared_ai(**both) as ai:
            for number in range(4):
                await ai.score(transaction_id=f"tx-{number}")
            with valkey_server.client() as client:
                client.flushall()
            away = (await ai.score(transaction_id="away")).json()
            await is_known(ai, "back")
            counted = await rebuild_velocity(
                AiSettings(environment="test", valkey_timeout_ms=5000, **both), Console(quiet=True)
            )
            await eventually(lambda: _knows(ai, targets, count=5))

        assert away["degraded"] == ["velocity"]
        assert counted >= 5


class TestAnotherRunOfValkey:
    async def test_makes_the_state_count_as_incomplete_and_it_is_rebuilt(
        self, open_shared_ai: OpenAi, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        state = "assay:{ins_test}:velocity:v1:state"
        async with open_shared_ai(valkey_url=valkey_url) as ai:
            await ai.score(transaction_id="tx-0")
            with valkey_server.client() as client:
                before = client.hget(state, "generation")
                client.hset(state, "run", "of a server that ended before it had written everything")

            async def rebuilt() -> bool:
                with valkey_server.client() as client:
                    generation, counted_by = client.hmget(state, "generation", "run")
                    return bool(
                        generation != before and counted_by == client.info("server")["run_id"].encode()
                    )

            await eventually(rebuilt)


class TestMemory:
    async def test_is_shown_with_what_was_evicted(self, open_shared_ai: OpenAi) -> None:
        with running_valkey("--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru") as server:
            async with open_shared_ai(valkey_url=server.url) as ai:
                await ai.score()
                with server.client() as client:
                    for number in range(40):
                        client.set(f"ballast-{number}", b"x" * 100_000, ex=1000)

                async def evicted() -> bool:
                    text = (await ai.client.get("/metrics")).text
                    line = next(
                        each for each in text.splitlines() if each.startswith("assay_velocity_evictions ")
                    )
                    return float(line.split()[1]) > 0

                await eventually(evicted)
                text = (await ai.client.get("/metrics")).text

        assert 'assay_velocity_memory_bytes{of="at_most"} 4.194304e+06' in text

    @pytest.mark.parametrize(
        "options",
        [(), ("--maxmemory", "50mb"), ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")],
    )
    async def test_without_a_limit_that_fits_production_does_not_start(
        self, options: tuple[str, ...]
    ) -> None:
        with running_valkey(*options) as server:
            async with open_valkey(SecretStr(server.url), timeout_s=5) as calls:
                await check_memory(calls, Environment.DEVELOPMENT)

                with pytest.raises(StartupError, match="maxmemory"):
                    await check_memory(calls, Environment.PRODUCTION)


class TestRebuild:
    async def test_command_gives_the_readings_that_were_there_before(
        self,
        open_shared_ai: OpenAi,
        targets: FakeTargets,
        valkey_url: str,
        valkey_server: ValkeyServer,
        tmp_path: Path,
    ) -> None:
        async with open_shared_ai(valkey_url=valkey_url) as ai:
            for number in range(30):
                await ai.score(
                    transaction_id=f"tx-{number}",
                    customer_id=f"customer-{number % 3}",
                    event_time=f"2026-11-01T1{number % 10}:0{number % 7}:00+00:00",
                    amount=f"{number}.50",
                )
        before = contents(valkey_server)

        counted = await rebuild_velocity(rebuild_settings(tmp_path, valkey_url), Console(quiet=True))

        assert counted == 30
        assert contents(valkey_server) == before

    async def test_goes_on_while_payers_are_served_and_loses_nobody(
        self, open_shared_ai: OpenAi, targets: FakeTargets, valkey_url: str, tmp_path: Path
    ) -> None:
        settings = rebuild_settings(tmp_path, valkey_url)
        async with open_shared_ai(valkey_url=valkey_url) as ai:
            for number in range(20):
                await ai.score(transaction_id=f"before-{number}")
            scoring = asyncio.create_task(_score_many(ai, 60))
            rebuilt = 0
            while not scoring.done():
                with_others = await asyncio.gather(
                    rebuild_velocity(settings, Console(quiet=True)), return_exceptions=True
                )
                rebuilt += isinstance(with_others[0], int)
            await scoring
            await all_counted(tmp_path)
            await ai.score(transaction_id="next")

        assert rebuilt
        assert f"{COUNT}80.0" in targets.records[-1]["body"]

    async def test_waits_for_another_process_that_is_at_work(
        self, open_shared_ai: OpenAi, valkey_url: str, valkey_server: ValkeyServer, tmp_path: Path
    ) -> None:
        settings = rebuild_settings(tmp_path, valkey_url)
        async with open_shared_ai(valkey_url=valkey_url) as ai:
            await ai.score()
        with valkey_server.client() as client:
            client.set(LEASE, "of another process", px=60_000)

            with pytest.raises(RebuildFailedError, match="at work on: ins_test"):
                await rebuild_velocity(settings, Console(quiet=True), patience_s=0.3)

            waiting = asyncio.create_task(rebuild_velocity(settings, Console(quiet=True)))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            client.delete(LEASE)
        assert await waiting == 1

    @pytest.mark.parametrize(
        ("flags", "said"),
        [([], "VALKEY_URL is not set"), (["--valkey-url", "valkey://127.0.0.1:1/0"], "not answer")],
    )
    def test_says_what_is_missing(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        flags: list[str],
        said: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert main(["--database-url", f"sqlite:///{tmp_path}/ai.db", *flags]) == 1
        assert said in capsys.readouterr().err


def rebuild_settings(tmp_path: Path, valkey_url: str) -> AiSettings:
    return AiSettings(
        environment="test",
        database_url=f"sqlite:///{tmp_path}/ai.db",
        valkey_url=valkey_url,
        valkey_timeout_ms=5000,
    )


def set_back(server: ValkeyServer) -> tuple[str, str]:
    """Let the state be an earlier one, in which one transaction was counted; return its key and its generation."""
    state = "assay:{ins_test}:velocity:v1:state"
    with server.client() as client:
        generation = client.hget(state, "generation").decode()
        client.hset(state, "sequence", 1)
        client.unlink(*client.keys(f"*{generation}:*"))
    return state, generation


def contents(server: ValkeyServer) -> dict[bytes, bytes]:
    """Return what is known of every entity, whatever the generation is called."""
    with server.client() as client:
        return {ENTITY_KEY.sub(b"", key): client.get(key) for key in client.keys("assay:*:????????:e*")}


@contextmanager
def paused(server: ValkeyServer) -> Iterator[None]:
    """Let a server stand still while the block runs."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


async def _score_many(ai: Ai, count: int) -> None:
    for number in range(count):
        assert (await ai.score(transaction_id=f"during-{number}")).status_code == 200


async def _knows(ai: Ai, targets: FakeTargets, *, count: int) -> bool:
    """Whether the next transaction of a customer is told that `count` came before it; a refused one is no other."""
    await ai.score(
        transaction_id=f"look-{len(targets.records)}", merchant_id="another", customer_id="customer-1"
    )
    seen = [record["body"] for record in targets.records if '"transaction_id":"look-' in record["body"]]
    return any(f"{COUNT}{count + number}.0" in body for number, body in enumerate(seen))


async def _is_of_another_generation(server: ValkeyServer, state: str, generation: str) -> bool:
    with server.client() as client:
        found = client.hget(state, "generation")
    return found is not None and found.decode() != generation
