"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection

from log_service.archive import repository
from log_service.archive.repository import Content
from log_service.bootstrap import build
from tests.api.log_service.harness import (
    AT_ONCE_S,
    Bucket,
    RunningLogService,
    log_settings,
    make_records,
)
from tests.commits import HELD_S, Route, check_commit_comes_first, check_failed_commit_is_an_outage
from tests.conftest import RunningUserService
from tests.waiting import PATIENCE_S

COMMITTING: dict[Route, Callable[[RunningLogService], Awaitable[httpx.Response]]] = {
    ("POST", "/v1/internal/audit-records"): lambda service: service.hand_over(make_records(2)),
}
KEEPING_NOTHING: set[Route] = set()


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(
        self, spooling: RunningLogService, route: Route
    ) -> None:
        await check_commit_comes_first(spooling.client, lambda: COMMITTING[route](spooling))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, spooling: RunningLogService, route: Route
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: COMMITTING[route](spooling))

        again = await COMMITTING[route](spooling)

        assert again.is_success, again.text


class TestFailedCommit:
    async def test_of_records_archives_none_of_them_until_they_are_handed_over_again(
        self, archiving: RunningLogService, bucket: Bucket
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: archiving.hand_over(make_records(2)))
        totals = await archiving.totals()
        objects_before = bucket.objects()

        again = await archiving.hand_over(make_records(2))
        await archiving.all_archived(2)

        assert totals == {"records": 0, "archived": 0, "spooled": 0}
        assert objects_before == {}
        assert again.json() == {"accepted": 2, "repeated": 0}
        assert len(bucket.objects()) == 1


class TestStopping:
    async def test_while_an_object_is_being_decided_decides_it_once_and_stores_it(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seal, begun, may_go_on = repository.seal, threading.Event(), threading.Event()

        def held(connection: Connection, content: Content, *, now: int) -> str:
            begun.set()
            assert may_go_on.wait(PATIENCE_S)
            return seal(connection, content, now=now)

        monkeypatch.setattr(repository, "seal", held)
        async with build(log_settings(tmp_path, users, bucket, archive_interval_s=AT_ONCE_S)) as state:
            await state["spool"].accept(make_records(2), writer="ai_service")
            assert await asyncio.to_thread(begun.wait, PATIENCE_S)
            asyncio.get_running_loop().call_later(HELD_S, may_go_on.set)

        assert len(bucket.objects()) == 1
