import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common.db import migrate
from common.errors import StartupError
from log_service.archive.ownership import NotOwnerError, owned
from log_service.bootstrap import MIGRATIONS
from tests.api.log_service.harness import (
    BUCKET,
    DAY,
    RIVAL,
    Bucket,
    log_settings,
    make_record,
    make_records,
    open_log_service,
    s3_server,
)
from tests.conftest import RunningUserService
from tests.integration.log_service.processes import archived_lines, bodies_of
from tests.postgres import running_postgres


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    """An S3 server that is up and has the bucket."""
    (tmp_path / "s3" / BUCKET).mkdir(parents=True)
    with s3_server(tmp_path / "s3") as server:
        yield server


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A database on a server of this test's own, whose connections it may cut."""
    with running_postgres() as server:
        yield server.create_database("spool")


class TestOwnership:
    async def test_is_taken_back_when_its_connection_was_cut_and_refused_to_others(
        self, postgres_url: str
    ) -> None:
        async with owned(postgres_url) as ownership:
            await asyncio.to_thread(cut_all_others, postgres_url)

            await ownership.confirm()

            with pytest.raises(StartupError):
                async with owned(postgres_url, wait_s=0):
                    pass
        async with owned(postgres_url, wait_s=5) as ownership:  # the server sees an end a moment later
            await ownership.confirm()

    async def test_is_lost_to_another_one_that_was_faster(self, postgres_url: str) -> None:
        async with owned(postgres_url) as first:
            await asyncio.to_thread(cut_all_others, postgres_url)

            async with owned(postgres_url, wait_s=0):
                with pytest.raises(NotOwnerError):
                    await first.confirm()


def cut_all_others(url: str) -> None:
    """End every other connection, as a restart of the server does."""
    with psycopg.connect(url, connect_timeout=30) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND usename = current_user"
        )


class TestOrder:
    async def test_is_that_of_the_bytes(self, postgres_url: str) -> None:
        await asyncio.to_thread(migrate, postgres_url, migrations=MIGRATIONS)

        with psycopg.connect(postgres_url, connect_timeout=30) as connection:
            found = connection.execute(
                "SELECT table_name, collation_name FROM information_schema.columns"
                " WHERE column_name = 'record_id' ORDER BY table_name"
            ).fetchall()

        assert found == [("audit_records", "C"), ("spooled_bodies", "C")]


class TestOverPostgres:
    async def test_archives_and_gives_back_as_over_sqlite(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket, postgres_url: str
    ) -> None:
        records = make_records(60)
        settings = log_settings(tmp_path, users, bucket, database_url=postgres_url, archive_object_records=20)
        async with open_log_service(settings, users) as service:
            taken = bucket.root / "audit/sandbox/ins_bank/2026/11/02/decision-000000000001.ndjson.gz"
            taken.parent.mkdir(parents=True)
            taken.write_bytes(gzip.compress(b'{"forged":true}\n'))

            answers = await asyncio.gather(
                *[service.hand_over(records[start::4]) for start in range(4)],
                service.hand_over(make_records(5, institution=RIVAL)),
            )
            await service.all_archived(60)
            await service.all_archived(5, institution=RIVAL)
            repeated = await service.hand_over(records)
            forged = await service.hand_over([make_record(1, note="forged")])
            day = await service.read(f"/v1/audit/days/{DAY}/records")
            objects = (await service.read(f"/v1/audit/days/{DAY}")).json()["items"]
            spooled = await service.metric("assay_archive_spooled_records")
        taken.unlink()

        assert {answer.status_code for answer in answers} == {202}
        assert repeated.json() == {"accepted": 0, "repeated": 60}
        assert forged.status_code == 409
        assert day.content == b"".join(record.body.encode() + b"\n" for record in records)
        assert [item["state"] for item in objects].count("conflict") == 1
        assert spooled == 0
        assert archived_lines(bucket) == bodies_of([*records, *make_records(5, institution=RIVAL)])
