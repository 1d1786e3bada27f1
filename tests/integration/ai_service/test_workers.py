"""Two processes of ai_service over one PostgreSQL: they decide as one, and losing one of them loses nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.conftest import RunningUserService
from tests.fake_targets import FakeTargets
from tests.integration.ai_service.processes import Workers, ai_workers
from tests.models import save_test_model
from tests.postgres import seeing_all
from tests.servers import serving
from tests.waiting import eventually

TIMEOUT_S = 100  # two services start in it, on whatever machine
Start = Callable[..., AbstractAsyncContextManager[Workers]]


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """Where two models are saved; the second one is not in use."""
    folder = tmp_path / "models"
    save_test_model(folder, version="1")
    current = (folder / "current.json").read_bytes()
    save_test_model(folder, version="2")
    (folder / "current.json").write_bytes(current)
    return folder


@pytest.fixture
async def targets() -> FakeTargets:
    return FakeTargets()


@pytest.fixture
async def start(
    tmp_path: Path,
    users: RunningUserService,
    targets: FakeTargets,
    models_dir: Path,
    postgres_url: str,
    valkey_url: str,
) -> AsyncIterator[Start]:
    """Start two workers."""
    async with serving(targets.app) as url:

        @asynccontextmanager
        async def started(**changes: str) -> AsyncIterator[Workers]:
            async with (
                asyncio.timeout(TIMEOUT_S),
                ai_workers(
                    tmp_path, users, url,
                    database_url=postgres_url, valkey_url=valkey_url, models_dir=models_dir, **changes,
                ) as running,
            ):  # fmt: skip
                yield running

        yield started


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(seeing_all(url)) as connection:
        return connection.execute(query.encode()).fetchall()


async def score_until_done(
    workers: Workers, client: httpx.AsyncClient, transaction_id: str
) -> httpx.Response:
    """Repeat a transaction as callers do whose connection broke or who were told to come again."""
    while True:
        try:
            answer = await workers.score(client, transaction_id)
        except httpx.TransportError:
            continue
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return answer


class TestOneIdAtAllWorkers:
    async def test_is_decided_once_and_everybody_gets_the_same_answer(
        self, start: Start, targets: FakeTargets, postgres_url: str
    ) -> None:
        async with start() as workers:
            answers = await asyncio.gather(
                *(workers.score(client, f"tx-{number}") for number in range(20) for client in workers.clients)
            )
            await targets.until(records=20)
            kept = rows(postgres_url, "SELECT transaction_id FROM decisions ORDER BY decision_sequence")
            numbers = rows(postgres_url, "SELECT decision_sequence FROM decisions ORDER BY 1")
            code = await workers.process.stop()

        decided: dict[str, set[str]] = {}
        for answer in answers:
            assert answer.status_code == 200, answer.text
            found = answer.json()
            same = str({name: found[name] for name in sorted(found) if name != "deliveries"})
            decided.setdefault(found["transaction_id"], set()).add(same)
        assert len(kept) == len({name for (name,) in kept}) == 20
        assert all(len(same) == 1 for same in decided.values())
        assert numbers == [(number,) for number in range(1, 21)]
        assert sum("Idempotent-Replay" not in answer.headers for answer in answers) == 20
        assert code == 0


class TestAWorkerThatIsKilled:
    async def test_takes_no_decision_along_and_is_replaced(
        self, start: Start, targets: FakeTargets, postgres_url: str
    ) -> None:
        async with start() as workers:
            before = workers.pids()
            load = [
                asyncio.create_task(score_until_done(workers, workers.clients[number % 16], f"tx-{number}"))
                for number in range(400)
            ]
            await asyncio.wait(load, return_when=asyncio.FIRST_COMPLETED)
            os.kill(before[0], signal.SIGKILL)
            answers = await asyncio.gather(*load)
            await eventually(lambda: _served_again(workers, times=3), timeout_s=60)
            after = workers.pids()
            kept = rows(postgres_url, "SELECT transaction_id, decision_id FROM decisions")
            saved = {str(transaction_id): str(decision_id) for transaction_id, decision_id in kept}
            numbers = rows(postgres_url, "SELECT decision_sequence FROM decisions ORDER BY 1")
            # what the killed one had told may be told again, so not every record is another decision's
            told = await eventually(lambda: _told(targets, decisions=400), timeout_s=60)

        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["transaction_id"]: answer.json()["decision_id"] for answer in answers} == saved
        assert numbers == [(number,) for number in range(1, 401)]
        assert before[0] not in after
        assert len(after) == 2
        assert told == set(saved.values())


class TestAnotherModel:
    async def test_is_used_by_all_within_seconds_and_nobody_is_refused_meanwhile(
        self, start: Start, models_dir: Path
    ) -> None:
        async with start() as workers:
            answers: list[httpx.Response] = []

            async def go_on(client: httpx.AsyncClient, name: str, until: asyncio.Event) -> None:
                while not until.is_set():
                    answers.append(await workers.score(client, f"{name}-{len(answers)}"))

            done = asyncio.Event()
            load = [
                asyncio.create_task(go_on(client, str(number), done))
                for number, client in enumerate(workers.clients[:8])
            ]
            code, said = await workers.command("ai_service.use_model", "2")
            new = 'assay_model_processes{model="test",version="2"}'
            await eventually(lambda: _metric_is(workers, new, 2), timeout_s=30)
            switched_at = len(answers)
            await eventually(lambda: _longer(answers, switched_at + 20))
            done.set()
            await asyncio.gather(*load)
            old = await workers.metric('assay_model_processes{model="test",version="1"}')
            _, listed = await workers.command("ai_service.use_model", "--list")

        assert (code, said) == (0, "Every process scores with test/2 within seconds.\n")
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["model"]["version"] for answer in answers} == {"1", "2"}
        assert {answer.json()["model"]["version"] for answer in answers[switched_at + 8 :]} == {"2"}
        assert old == 0
        assert listed.splitlines() == ["  test/1", "* test/2"]


class TestStopping:
    async def test_finishes_what_runs(self, start: Start, targets: FakeTargets, postgres_url: str) -> None:
        targets.geoip_gate = asyncio.Event()
        async with start(GEOIP_TIMEOUT_MS="1000") as workers:
            running = [
                asyncio.create_task(workers.score(client, f"tx-{number}", ip_address=f"81.2.69.{number}"))
                for number, client in enumerate(workers.clients)
            ]
            await eventually(lambda: _longer(targets.geoip_asked, len(running)))
            stopping = asyncio.create_task(workers.process.stop())
            targets.geoip_gate.set()
            answers = await asyncio.gather(*running)
            code = await stopping

        assert {answer.status_code for answer in answers} == {200}
        assert code == 0
        assert rows(postgres_url, "SELECT count(*) FROM decisions") == [(len(answers),)]


async def _served_again(workers: Workers, *, times: int) -> bool:
    return workers.log.read_text().count('"worker.serves"') >= times


async def _metric_is(workers: Workers, name: str, value: float) -> bool:
    return await workers.metric(name) == value


async def _longer(found: list[object] | list[str] | list[httpx.Response], count: int) -> bool:
    return len(found) >= count


async def _told(targets: FakeTargets, *, decisions: int) -> set[str]:
    """Return the decisions that were archived, once there are that many; nothing before."""
    found = {str(each["record_id"]) for each in targets.records}
    return found if len(found) >= decisions else set()
