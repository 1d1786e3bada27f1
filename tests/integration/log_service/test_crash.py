import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from common.contracts.audit_records import AuditRecord
from tests.api.log_service.harness import Bucket, make_records
from tests.conftest import RunningUserService
from tests.integration.log_service.processes import (
    archived_lines,
    bodies_of,
    hand_over_until_done,
    log_service_process,
    s3_process,
)
from tests.servers import free_port, serving
from tests.waiting import PATIENCE_S


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    """An S3 server as a process."""
    port = free_port()
    async with s3_process(tmp_path / "s3", port=port):
        yield Bucket(f"http://127.0.0.1:{port}", tmp_path / "s3")


class HoldsBackAnswers:
    """An S3 server in front of another: it passes requests on, and never tells what became of a PUT of an object."""

    def __init__(self, target: str) -> None:
        self._client = httpx.AsyncClient(base_url=target, timeout=PATIENCE_S)
        self.written = asyncio.Event()
        self._released = asyncio.Event()

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        request = Request(scope, receive)  # type: ignore[arg-type]
        answer = await self._client.request(
            request.method,
            str(request.url.path),
            content=await request.body(),
            headers={name: value for name, value in request.headers.items() if name != "host"},
        )
        if request.method == "PUT" and request.url.path.endswith(".gz"):
            self.written.set()
            await self._released.wait()
        response = Response(answer.content, answer.status_code, dict(answer.headers))
        await response(scope, receive, send)  # type: ignore[arg-type]

    async def close(self) -> None:
        self._released.set()
        await self._client.aclose()


@asynccontextmanager
async def holding_back(target: str) -> AsyncIterator[tuple[HoldsBackAnswers, str]]:
    """Serve S3 without answers to writes."""
    front = HoldsBackAnswers(target)
    async with serving(front) as url:  # type: ignore[arg-type]
        try:
            yield front, url
        finally:
            await front.close()


class TestKilledInTheMiddleOfAStream:
    async def test_archives_every_accepted_record_once_and_unchanged(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        batches = [make_records(20, first=1 + 20 * place) for place in range(60)]
        waiting = iter(batches)
        accepted: list[AuditRecord] = []
        port = free_port()

        for kill_after in (10, 25, None):
            async with log_service_process(tmp_path, users, bucket.url, port=port) as (process, service):

                async def stream() -> None:
                    for batch in waiting:
                        if await hand_over_until_done(service, batch):
                            accepted.extend(batch)
                        if kill_after is not None and len(accepted) >= 20 * kill_after:  # noqa: B023 - as above
                            await process.kill()
                        if not process.running:
                            return

                await asyncio.gather(*[stream() for _ in range(3)])
                if process.running:
                    unanswered = [record for batch in batches for record in batch if record not in accepted]
                    for start in range(0, len(unanswered), 100):
                        await service.hand_over(unanswered[start : start + 100])
                    await service.all_archived(1200)

        everything = [record for batch in batches for record in batch]
        assert archived_lines(bucket) == bodies_of(everything)
        numbers = sorted(int(key[-22:-10]) for key in bucket.objects())
        assert numbers == list(range(1, len(numbers) + 1))


class TestKilledBetweenWriteAndNote:
    async def test_finds_its_own_object_under_the_key_and_writes_no_second(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(30)
        port = free_port()
        async with (
            holding_back(bucket.url) as (front, url),
            log_service_process(tmp_path, users, url, port=port) as (process, service),
        ):
            await service.hand_over(records)
            async with asyncio.timeout(PATIENCE_S):
                await front.written.wait()
            await process.kill()
        before = bucket.objects()

        async with log_service_process(tmp_path, users, bucket.url, port=port) as (_, service):
            await service.all_archived(30)
            conflicts = await service.metric('assay_archive_objects_total{result="conflict"}')

        assert len(before) == 1
        assert bucket.objects() == before
        assert archived_lines(bucket) == bodies_of(records)
        assert conflicts == 0


class TestStoppedInOrder:
    async def test_archives_what_still_waits_before_it_ends(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(30)
        async with log_service_process(
            tmp_path, users, bucket.url, port=free_port(), ARCHIVE_INTERVAL_S="60"
        ) as (
            process,
            service,
        ):
            await service.hand_over(records)

            status = await process.stop()

        assert status == 0
        assert archived_lines(bucket) == bodies_of(records)

    async def test_ends_in_time_and_loses_nothing_while_the_archive_is_away(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(30)
        port = free_port()
        away = f"http://127.0.0.1:{free_port()}"
        async with log_service_process(tmp_path, users, away, port=port) as (process, service):
            await service.hand_over(records)

            status = await process.stop()

        async with log_service_process(tmp_path, users, bucket.url, port=port) as (_, service):
            await service.all_archived(30)
        assert status == 0
        assert archived_lines(bucket) == bodies_of(records)

    async def test_ends_in_time_while_the_archive_hangs(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        records = make_records(30)
        port = free_port()
        async with (
            holding_back(bucket.url) as (front, url),
            log_service_process(tmp_path, users, url, port=port, GRACEFUL_SHUTDOWN_S="1") as (
                process,
                service,
            ),
        ):
            await service.hand_over(records)
            async with asyncio.timeout(PATIENCE_S):
                await front.written.wait()

            async with asyncio.timeout(18):  # less than the 20 s that one call to S3 may take
                status = await process.stop()

        async with log_service_process(tmp_path, users, bucket.url, port=port) as (_, service):
            await service.all_archived(30)
        assert status == 0
        assert archived_lines(bucket) == bodies_of(records)
