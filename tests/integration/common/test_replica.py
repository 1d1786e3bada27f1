"""A read replica: a real second server, that changes nothing, goes away and comes back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import InternalError

from common.db import writing_engine
from common.replica import open_replica
from common.writer import DatabaseWriter
from tests.postgres import postgres_folder, running_postgres
from tests.servers import free_port
from tests.waiting import eventually

WHERE = select(func.current_setting("port"))
NOTES = Table("notes", MetaData(), Column("number", Integer, primary_key=True))


@pytest.fixture
def data() -> Iterator[Path]:
    """Where the replica keeps its data while it is away."""
    with postgres_folder() as folder:
        yield folder


def reads(database: str) -> float:
    return REGISTRY.get_sample_value("assay_list_reads_total", {"database": database}) or 0


class TestReplica:
    async def test_answers_while_it_is_there_and_the_primary_while_it_is_not(
        self, postgres_url: str, data: Path
    ) -> None:
        port = free_port()
        primary = DatabaseWriter(writing_engine(postgres_url))
        at_primary = await primary.run(lambda c: c.scalar(WHERE))
        with running_postgres("synchronous_commit=on", data=data, port=port) as replica:
            url = replica.create_database("assay")
            async with open_replica(url, primary, probe_every_s=0.05) as lists:
                before = await lists.run(lambda c: c.scalar(WHERE))
                counted = reads("replica"), reads("primary")
                replica.process.send_signal(signal.SIGQUIT)
                replica.process.wait(20)
                with structlog.testing.capture_logs() as logs:
                    away = await lists.run(lambda c: c.scalar(WHERE))
                grown = reads("replica") - counted[0], reads("primary") - counted[1]

                with running_postgres(data=data, port=port):

                    async def is_used_again() -> bool:
                        return await lists.run(lambda c: c.scalar(WHERE)) == str(port)

                    assert await eventually(is_used_again)
        await primary.close()

        assert (before, away) == (str(port), at_primary)
        assert grown == (0, 1)
        assert "read_replica.failed" in {entry["event"] for entry in logs}

    def test_is_asked_in_sessions_that_change_nothing(self, postgres_url: str) -> None:
        writing = writing_engine(postgres_url)
        NOTES.metadata.create_all(writing)
        writing.dispose()
        reading = writing_engine(postgres_url, read_only=True)

        with reading.connect() as connection, pytest.raises(InternalError, match="read-only transaction"):
            connection.execute(insert(NOTES).values(number=1))
        reading.dispose()

    async def test_that_has_not_heard_of_a_table_leaves_the_answer_to_the_primary(
        self, postgres_url: str, data: Path
    ) -> None:
        engine = writing_engine(postgres_url)
        NOTES.metadata.create_all(engine)
        primary = DatabaseWriter(engine)
        with running_postgres(data=data) as replica:
            async with open_replica(replica.create_database("assay"), primary) as lists:
                found = await lists.run(lambda c: c.execute(select(NOTES)).all())
        await primary.close()

        assert found == []

    async def test_that_is_not_there_leaves_everything_to_the_primary(self, postgres_url: str) -> None:
        primary = DatabaseWriter(writing_engine(postgres_url))
        async with open_replica(None, primary) as lists:
            assert lists is primary
        await primary.close()
