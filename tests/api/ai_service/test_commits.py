"""Every route that keeps something: nothing is answered before it is kept, and not at all when it could not be."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from tests.api.ai_service.conftest import Ai, OpenAi
from tests.commits import Route, check_commit_comes_first, check_failed_commit_is_an_outage, held_commits
from tests.fake_targets import FakeTargets
from tests.models import FRAUD

COMMITTING: dict[Route, Callable[[Ai], Awaitable[httpx.Response]]] = {
    ("POST", "/v1/score"): lambda ai: ai.score(transaction_id="tx-1", amount=FRAUD),
}
KEEPING_NOTHING: set[Route] = set()
SOON = {"X-Deadline-Ms": "500"}


@pytest.fixture(params=[True, False], ids=["hot-door", "route"])
async def ai(open_ai: OpenAi, request: pytest.FixtureRequest) -> AsyncIterator[Ai]:
    """One running ai_service, entered by either door."""
    async with open_ai(hot_door=request.param) as opened:
        yield opened


@pytest.mark.parametrize("route", COMMITTING, ids=" ".join)
class TestCommit:
    async def test_comes_before_the_first_byte_of_the_answer(self, ai: Ai, route: Route) -> None:
        await check_commit_comes_first(ai.client, lambda: COMMITTING[route](ai))

    async def test_that_fails_is_an_outage_after_which_the_same_request_succeeds(
        self, ai: Ai, route: Route
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: COMMITTING[route](ai))

        again = await COMMITTING[route](ai)

        assert again.is_success, again.text


class TestFailedCommit:
    async def test_of_a_decision_tells_nobody_and_decides_anew_when_it_is_repeated(
        self, ai: Ai, targets: FakeTargets
    ) -> None:
        await check_failed_commit_is_an_outage(lambda: ai.score(transaction_id="tx-1", amount=FRAUD))
        found = (await ai.get("/v1/transactions")).json()["items"]
        told_before = [*targets.alerts, *targets.records]

        again = await ai.score(transaction_id="tx-1", amount=FRAUD)
        await targets.until(alerts=1, records=1)

        assert found == []
        assert told_before == []
        assert again.status_code == 200
        assert again.json()["decision_sequence"] == 1
        assert "Idempotent-Replay" not in again.headers
        assert (len(targets.alerts), len(targets.records)) == (1, 1)

    async def test_counts_the_transaction_once_in_what_is_known_of_its_customer(self, ai: Ai) -> None:
        await check_failed_commit_is_an_outage(lambda: ai.score(transaction_id="tx-1"))
        await ai.score(transaction_id="tx-1")
        await ai.score(transaction_id="tx-2", event_time="2026-11-01T10:00:01+00:00")

        newest = (await ai.get("/v1/transactions?limit=1")).json()["items"][0]["decision"]

        assert newest["transaction_id"] == "tx-2"
        assert newest["decision_sequence"] == 2


class TestHeldCommit:
    async def test_tells_nobody_before_it_is_over(self, ai: Ai, targets: FakeTargets) -> None:
        await ai.score(transaction_id="tx-0")  # what only the first one waits for is there
        await targets.until(records=1)
        with held_commits() as commits:
            held = await ai.score(transaction_id="tx-1", amount=FRAUD, headers=SOON)
            told_before = (len(targets.alerts), len(targets.records))
            commits.let_go()
            await targets.until(alerts=1, records=2)

        assert held.status_code == 503
        assert held.json()["type"] == "urn:assay:problem:deadline-exceeded"
        assert held.headers["Retry-After"] == "1"
        assert told_before == (0, 1)

    async def test_that_outlives_the_deadline_answers_a_repeat_with_what_it_saved(self, ai: Ai) -> None:
        await ai.score(transaction_id="tx-0")
        with held_commits() as commits:
            held = await ai.score(transaction_id="tx-1", headers=SOON)
            begun = commits.begun
            commits.let_go()

        again = await ai.score(transaction_id="tx-1")

        assert begun
        assert held.status_code == 503
        assert again.headers["Idempotent-Replay"] == "true"

    async def test_turns_away_more_than_can_wait(self, open_ai: OpenAi) -> None:
        async with open_ai(max_waiting=2) as ai:
            await ai.score(transaction_id="tx-0")
            with held_commits():
                answers = [
                    await ai.score(transaction_id=f"tx-{number}", headers=SOON) for number in range(1, 5)
                ]

        types = [answer.json()["type"].rpartition(":")[2] for answer in answers]
        assert types == ["deadline-exceeded"] * 2 + ["overloaded"] * 2
