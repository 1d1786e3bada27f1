"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api.log_service.harness import Bucket, RunningLogService, make_records
from tests.commits import Route, check_commit_comes_first, check_failed_commit_is_an_outage

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
