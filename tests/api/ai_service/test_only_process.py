"""The lock of the one process that keeps velocity: lost with its connection, taken again, or somebody else's now."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from ai_service.only_process import ADVISORY_LOCK, AlreadyRunningError, OnlyProcess, only_process
from ai_service.settings import AiSettings
from common.db_connections import parsed
from common.owner_locks import AdvisoryLock
from tests.postgres import PostgresServer
from tests.waiting import eventually


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> AiSettings:
    return AiSettings(database_url=postgres_url, velocity_snapshot=tmp_path / "velocity.npz", _env_file=None)


@pytest.fixture
def asked_to_stop() -> Iterator[list[int]]:
    """The signals that this process sent itself."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def end_connections(server: PostgresServer, url: SecretStr) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [parsed(url).database],
        )


class TestALostConnection:
    async def test_is_noticed_and_the_lock_taken_again(
        self,
        settings: AiSettings,
        postgres_server: PostgresServer,
        asked_to_stop: list[int],
        tmp_path: Path,
    ) -> None:
        async with only_process(settings) as only:
            end_connections(postgres_server, settings.database_url)
            await only.look()

            assert await only.held()
            with pytest.raises(AlreadyRunningError):
                async with only_process(
                    settings.model_copy(update={"velocity_snapshot": tmp_path / "other.npz"})
                ):
                    pytest.fail("there are two")
        assert asked_to_stop == []

    async def test_stops_this_process_when_another_one_took_over(
        self, settings: AiSettings, postgres_server: PostgresServer, asked_to_stop: list[int]
    ) -> None:
        mine, others = [AdvisoryLock(settings.database_url, ADVISORY_LOCK) for _ in range(2)]
        assert mine.take()
        only = OnlyProcess(mine)

        end_connections(postgres_server, settings.database_url)
        await eventually(lambda: asyncio.to_thread(others.take))
        await only.look()
        held = await only.held()
        for lock in (mine, others):
            lock.release()

        assert held is False
        assert asked_to_stop == [signal.SIGTERM]
