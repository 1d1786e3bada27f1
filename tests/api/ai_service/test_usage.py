"""Decisions count against the month's quota, exactly and durably; what happens beyond it; rate limits at both doors."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, delete, func, select, update

from ai_service.bootstrap import build
from ai_service.main import SERVICE
from ai_service.scoring.tables import decisions, outbox
from ai_service.settings import AiSettings
from ai_service.usage.policy import seconds_left
from ai_service.usage.tables import quota_warnings, usage
from common.app import Service
from common.clock import utc_now
from common.contracts.access import OverQuota
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope
from common.rate_limits.limiting import Allowances, RateLimits
from tests.api.ai_service.conftest import Ai, OpenAi
from tests.commits import check_failed_commit_is_an_outage, held_commits
from tests.factories import SANDBOX, transaction_body
from tests.fake_targets import FakeTargets
from tests.fakes import USER_SCOPES, FakeAllowances, allowance
from tests.postgres import seeing_all
from tests.unit.common.rate_limits.clocks import Clock
from tests.waiting import eventually

OURS = SANDBOX.institution_id
OTHER = Institution(institution_id="ins_other", mode=InstitutionMode.SANDBOX, base_currency="EUR")
PLENTY = allowance(decisions_per_month=1000)
DOORS = pytest.mark.parametrize("door", [{"hot_door": True}, {"hot_door": False}], ids=["hot-door", "route"])


def allowing(allowances: Allowances) -> Service[AiSettings]:
    """Return the service, told what institutions may ask for."""
    return replace(SERVICE, build=partial(build, allowances=allowances))


@dataclass
class Caller:
    """Somebody who sends one token with every request, so that the hot door knows it."""

    ai: Ai
    institution: Institution = SANDBOX
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        token = self.ai.users.fake.user_token(
            institution=self.institution, scopes=[*USER_SCOPES, Scope.USAGE_READ]
        )
        self.headers = {"Authorization": f"Bearer {token}"}

    async def known(self) -> "Caller":
        """Make the token one that was verified before."""
        assert (await self.ai.client.get("/v1/transactions", headers=self.headers)).status_code == 200
        return self

    async def score(self, transaction_id: str, **changes: object) -> httpx.Response:
        """Score a plain transaction."""
        body = transaction_body(
            **{"event_time": "2026-11-01T10:00:00+00:00", "transaction_id": transaction_id, **changes}
        )
        return await self.ai.client.post("/v1/score", json=body, headers=self.headers)

    async def score_many(self, count: int, *, prefix: str = "tx") -> list[int]:
        """Score so many, one after another; return the statuses."""
        return [(await self.score(f"{prefix}-{number}")).status_code for number in range(count)]

    async def usage(self) -> dict[str, Any]:
        """Return what the service says was used."""
        response = await self.ai.client.get("/v1/usage", headers=self.headers)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@dataclass
class Rows:
    """Looks into the service's database."""

    folder: Path

    def count(self, table: Any) -> int:  # noqa: ANN401 - any table
        return int(self._run(select(func.count()).select_from(table)).scalar_one())

    def used(self) -> dict[str, int]:
        return {row.institution_id: row.decisions for row in self._run(select(usage))}

    def decided(self) -> dict[str, int]:
        query = select(decisions.c.institution_id, func.count()).group_by(decisions.c.institution_id)
        return {row[0]: row[1] for row in self._run(query)}

    def move_to_last_month(self) -> None:
        self._run(update(usage).values(month="2020-01"))

    def lose_warning(self, threshold: int) -> None:
        self._run(delete(quota_warnings).where(quota_warnings.c.threshold == threshold))

    def _run(self, statement: Any) -> Any:  # noqa: ANN401 - any statement
        engine = create_engine(f"sqlite:///{self.folder}/ai.db")
        with engine.begin() as connection:
            result = connection.execute(statement)
            frozen = result.freeze()() if result.returns_rows else result
        engine.dispose()
        return frozen


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


class TestUsage:
    async def test_counts_each_decision_once(self, open_ai: OpenAi, rows: Rows) -> None:
        async with open_ai(service=allowing(FakeAllowances(PLENTY))) as ai:
            caller, other = await Caller(ai).known(), Caller(ai, OTHER)
            await caller.score_many(3)
            replay = await caller.score("tx-1")
            reused = await caller.score("tx-1", amount="99.00")
            refused = await caller.score("tx-9", amount="-1")
            await other.score_many(1)

            ours, theirs = await caller.usage(), await other.usage()

        assert replay.headers["Idempotent-Replay"] == "true"
        assert (reused.status_code, refused.status_code) == (409, 422)
        assert (ours["decisions"], theirs["decisions"]) == (3, 1)
        assert rows.used() == rows.decided() == {OURS: 3, OTHER.institution_id: 1}

    async def test_counts_exactly_whatever_comes_at_once(self, open_ai: OpenAi, rows: Rows) -> None:
        async with open_ai(service=allowing(FakeAllowances(PLENTY))) as ai:
            caller = await Caller(ai).known()
            await asyncio.gather(*(caller.score(f"tx-{number % 40}") for number in range(120)))

            found = await caller.usage()

        assert found["decisions"] == 40
        assert rows.used() == rows.decided() == {OURS: 40}

    async def test_says_what_may_be_used(self, open_ai: OpenAi) -> None:
        async with open_ai(service=allowing(FakeAllowances(PLENTY))) as ai:
            caller = Caller(ai)
            await caller.score("tx-1")

            found = await caller.usage()

        now = utc_now()
        assert found["resets_at"] > now.isoformat()
        assert found == {
            "month": f"{now:%Y-%m}",
            "decisions": 1,
            "quota": 1000,
            "percent": 0.1,
            "over_quota": "allow_and_warn",
            "tier": "growth",
            "resets_at": found["resets_at"],
            "rate_limits": {"requests_per_second": 100_000, "caller_requests_per_second": 100_000},
        }

    async def test_survives_a_restart(self, open_ai: OpenAi) -> None:
        service = allowing(FakeAllowances(PLENTY))
        async with open_ai(service=service) as before:
            await Caller(before).score_many(3)
        async with open_ai(service=service) as after:
            at_first = (await Caller(after).usage())["decisions"]
            await Caller(after).score("next")

            assert (at_first, (await Caller(after).usage())["decisions"]) == (3, 4)

    async def test_of_another_month_is_not_of_this_one(self, open_ai: OpenAi, rows: Rows) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=3, over_quota=OverQuota.BLOCK)))
        async with open_ai(service=service) as before:
            await Caller(before).score_many(3)
        rows.move_to_last_month()
        async with open_ai(service=service) as after:
            assert (await Caller(after).usage())["decisions"] == 0
            assert (await Caller(after).score("next")).status_code == 200

    async def test_counts_nothing_that_was_not_committed(
        self, open_ai: OpenAi, rows: Rows, targets: FakeTargets
    ) -> None:
        one = allowance(decisions_per_month=1, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(one))) as ai:
            caller = await Caller(ai).known()
            await check_failed_commit_is_an_outage(lambda: caller.score("tx-1"))
            found = await caller.usage()
            warned = rows.count(quota_warnings)

            again = await caller.score("tx-1")

        assert (found["decisions"], warned) == (0, 0)
        assert again.status_code == 200
        assert rows.used() == {OURS: 1}

    async def test_needs_its_scope(self, open_ai: OpenAi) -> None:
        async with open_ai(service=allowing(FakeAllowances(PLENTY))) as ai:
            response = await ai.get("/v1/usage")  # without it

        assert response.status_code == 403

    async def test_is_not_told_while_it_is_not_known_what_may_be_used(self, open_ai: OpenAi) -> None:
        async with open_ai(service=allowing(FakeAllowances())) as ai:
            caller = Caller(ai)
            scored = await caller.score("tx-1")
            response = await ai.client.get("/v1/usage", headers=caller.headers)

        assert scored.status_code == 200
        assert response.status_code == 503
        assert response.json()["type"] == "urn:assay:problem:unavailable"

    async def test_is_counted_over_postgres_too(
        self, open_ai: OpenAi, targets: FakeTargets, postgres_url: str
    ) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=20)))
        async with open_ai(service=service, database_url=postgres_url) as before:
            caller = await Caller(before).known()
            await asyncio.gather(*(caller.score(f"tx-{number % 15}") for number in range(30)))
        async with open_ai(service=service, database_url=postgres_url) as after:
            found = await Caller(after).usage()
            await Caller(after).score_many(15)
            await Caller(after).score("next")
            await targets.until(notices=2)
            again = await Caller(after).usage()

        assert (found["decisions"], again["decisions"]) == (15, 16)
        assert sorted(each["facts"]["percent"] for each in targets.notices) == ["50", "80"]


class TestTwoProcesses:
    """Two services over one PostgreSQL; neither knows what the other holds."""

    async def test_decide_no_more_than_there_is_and_leave_nothing_of_the_rest(
        self, open_ai: OpenAi, targets: FakeTargets, postgres_url: str, valkey_url: str, tmp_path: Path
    ) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=30, over_quota=OverQuota.BLOCK)))
        shared = {"database_url": postgres_url, "valkey_url": valkey_url}
        async with (
            open_ai(service, **shared) as first,
            open_ai(service, **shared, velocity_snapshot=tmp_path / "other.npz") as second,
        ):
            callers = [await Caller(ai).known() for ai in (first, second)]
            answers = await asyncio.gather(
                *(callers[number % 2].score(f"tx-{number}") for number in range(100))
            )
            repeats = await asyncio.gather(
                *(callers[number % 2 - 1].score(f"tx-{number}") for number in range(100))
            )
            await targets.until(records=30, notices=4)
            used = [await eventually(partial(_used_up, caller)) for caller in callers]
        with closing(psycopg.connect(seeing_all(postgres_url))) as connection:
            (kept,) = connection.execute(
                "SELECT ARRAY[(SELECT count(*) FROM decisions), (SELECT count(*) FROM idempotency_keys), "
                "(SELECT sum(decisions) FROM usage), (SELECT max(decision_sequence) FROM decisions)]"
            ).fetchall()

        taken = [answer for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert (len(taken), len(refused)) == (30, 70)
        assert {answer.json()["type"] for answer in refused} == {"urn:assay:problem:quota-exceeded"}
        assert [each.status_code for each in repeats] == [each.status_code for each in answers]
        assert kept == ([30, 30, 30, 30],)
        assert used == [100.0, 100.0]
        assert sorted(each["facts"]["percent"] for each in targets.notices) == ["100", "50", "80", "90"]


async def _used_up(caller: Caller) -> float | None:
    percent: float = (await caller.usage())["percent"]
    return percent if percent >= 100 else None


class TestBlock:
    @DOORS
    async def test_refuses_everything_beyond_the_quota(
        self, open_ai: OpenAi, rows: Rows, targets: FakeTargets, door: dict[str, bool]
    ) -> None:
        three = allowance(decisions_per_month=3, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(three)), **door) as ai:
            caller = await Caller(ai).known()
            scored = await caller.score_many(3)
            longest_s = seconds_left(utc_now())
            refused = await caller.score("tx-4")
            shortest_s = seconds_left(utc_now())
            others = await Caller(ai, OTHER).score("tx-4")
            read = await ai.get("/v1/transactions")

        assert scored == [200] * 3
        assert refused.status_code == 429
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:assay:problem:quota-exceeded"
        assert shortest_s <= int(refused.headers["Retry-After"]) <= longest_s
        assert (others.status_code, read.status_code) == (200, 200)
        assert rows.decided() == {OURS: 3, OTHER.institution_id: 1}

    @DOORS
    async def test_answers_a_repeat_of_what_was_decided(
        self, open_ai: OpenAi, rows: Rows, door: dict[str, bool]
    ) -> None:
        three = allowance(decisions_per_month=3, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(three)), **door) as ai:
            caller = await Caller(ai).known()
            first = [await caller.score(f"tx-{number}") for number in range(3)]
            replay, reused = await caller.score("tx-1"), await caller.score("tx-1", amount="99.00")
            of_another = await Caller(ai, OTHER).score("tx-1")

        assert (replay.status_code, replay.json()) == (200, first[1].json())
        assert replay.headers["Idempotent-Replay"] == "true"
        assert reused.status_code == 409
        assert reused.json()["type"] == "urn:assay:problem:transaction-id-reused"
        assert of_another.json()["decision_id"] != replay.json()["decision_id"]
        assert rows.used() == {OURS: 3, OTHER.institution_id: 1}

    @DOORS
    async def test_holds_however_many_come_at_once(
        self, open_ai: OpenAi, rows: Rows, door: dict[str, bool]
    ) -> None:
        five = allowance(decisions_per_month=5, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(five)), **door) as ai:
            caller = await Caller(ai).known()
            answers = await asyncio.gather(*(caller.score(f"tx-{number}") for number in range(60)))
            later = await caller.score_many(3, prefix="later")

        assert sorted(each.status_code for each in answers) == [200] * 5 + [429] * 55
        assert later == [429] * 3
        assert rows.decided() == {OURS: 5}

    async def test_says_to_come_again_soon_while_the_last_ones_are_being_decided(
        self, open_ai: OpenAi
    ) -> None:
        two = allowance(decisions_per_month=2, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(two))) as ai:
            caller = await Caller(ai).known()
            await caller.score("tx-0")
            with held_commits() as commits:
                first = asyncio.create_task(caller.score("tx-1"))
                await eventually(lambda: _began(commits.begun))
                asked = asyncio.create_task(caller.score("tx-2"))
                await eventually(lambda: _began(commits.begun > 1))  # whether it is a repeat is looked up
                repeat = asyncio.create_task(caller.score("tx-1"))
                commits.let_go()
            answers = await first, await repeat
            refused = await asked

        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert [each.status_code for each in answers] == [200, 200]

    async def test_gives_back_what_was_not_decided(self, open_ai: OpenAi) -> None:
        two = allowance(decisions_per_month=2, over_quota=OverQuota.BLOCK)
        async with open_ai(service=allowing(FakeAllowances(two))) as ai:
            caller = await Caller(ai).known()
            await caller.score("tx-0")
            ahead = [
                (await caller.score(f"ahead-{number}", event_time="2998-01-01T00:00:00Z")).status_code
                for number in range(5)
            ]
            replays = await caller.score_many(1)

            assert (ahead, replays) == ([422] * 5, [200])
            assert (await caller.score("tx-last")).status_code == 200

    async def test_goes_on_when_the_quota_was_raised(self, open_ai: OpenAi) -> None:
        known = FakeAllowances(allowance(decisions_per_month=1, over_quota=OverQuota.BLOCK))
        async with open_ai(service=allowing(known)) as ai:
            caller = await Caller(ai).known()
            before = await caller.score_many(2)
            known.for_all = allowance(decisions_per_month=2, over_quota=OverQuota.BLOCK)
            after = await caller.score_many(3, prefix="after")

        assert (before, after) == ([200, 429], [200, 429, 429])

    async def test_outlives_a_restart(self, open_ai: OpenAi) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=2, over_quota=OverQuota.BLOCK)))
        async with open_ai(service=service) as before:
            await Caller(before).score_many(2)
        async with open_ai(service=service) as after:
            assert (await Caller(after).score("next")).status_code == 429


class TestWarnings:
    async def test_are_sent_at_each_threshold_once_while_scoring_goes_on(
        self, open_ai: OpenAi, rows: Rows, targets: FakeTargets
    ) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=10)))
        async with open_ai(service=service) as ai:
            caller = await Caller(ai).known()
            assert await caller.score_many(12) == [200] * 12
            await targets.until(notices=4)
        async with open_ai(service=service) as again:
            await Caller(again).score_many(3, prefix="more")
            await eventually(lambda: _is_left(rows, 0))

        facts = [notice["facts"] for notice in targets.notices]
        assert [(each["percent"], each["decisions"]) for each in facts] == [
            ("50", "5"),
            ("80", "8"),
            ("90", "9"),
            ("100", "10"),
        ]
        assert {(each["quota"], each["policy"], each["month"]) for each in facts} == {
            ("10", "allow_and_warn", f"{utc_now():%Y-%m}")
        }
        assert {
            (each["kind"], each["institution_id"], len(each["recipients"])) for each in targets.notices
        } == {("quota", OURS, 0)}
        assert len({each["notice_id"] for each in targets.notices}) == 4

    async def test_wait_until_alert_service_takes_them(
        self, open_ai: OpenAi, rows: Rows, targets: FakeTargets
    ) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=2)))
        targets.notices_status = 503
        async with open_ai(service=service) as before:
            await Caller(before).score_many(1)
        waiting = rows.count(outbox)
        targets.notices_status = 202
        async with open_ai(service=service):
            await targets.until(notices=1)
            await eventually(lambda: _is_left(rows, 0))

        assert waiting == 1
        assert [each["facts"]["percent"] for each in targets.notices] == ["50"]

    async def test_do_not_wait_for_one_that_is_lost(
        self, open_ai: OpenAi, rows: Rows, targets: FakeTargets
    ) -> None:
        service = allowing(FakeAllowances(allowance(decisions_per_month=2)))
        targets.notices_status = 503
        async with open_ai(service=service) as before:
            await Caller(before).score_many(2)
        rows.lose_warning(50)
        targets.notices_status = 202
        async with open_ai(service=service):
            await targets.until(notices=3)
            await eventually(lambda: _is_left(rows, 1))

        assert sorted(int(each["facts"]["percent"]) for each in targets.notices) == [80, 90, 100]

    async def test_are_all_sent_when_one_commit_reaches_several(
        self, open_ai: OpenAi, targets: FakeTargets
    ) -> None:
        async with open_ai(service=allowing(FakeAllowances(allowance(decisions_per_month=1)))) as ai:
            await Caller(ai).score("tx-1")
            await targets.until(notices=4)

        assert sorted(int(each["facts"]["percent"]) for each in targets.notices) == [50, 80, 90, 100]


class TestRateLimits:
    async def test_are_the_same_at_both_doors(self, open_ai: OpenAi, tmp_path: Path) -> None:
        answered = {}
        for hot_door in (True, False):
            async with open_ai(
                service=with_fixed_clock(FakeAllowances(allowance(caller_requests_per_second=4))),
                hot_door=hot_door,
                database_url=f"sqlite:///{tmp_path}/{hot_door}.db",
                velocity_snapshot=tmp_path / f"{hot_door}.npz",
            ) as ai:
                caller = await Caller(ai).known()
                answers = [await caller.score(f"tx-{number}") for number in range(5)]
            answered[hot_door] = [(each.status_code, comparable(each.headers)) for each in answers]

        assert answered[True] == answered[False]
        assert [status for status, _ in answered[True]] == [200, 200, 200, 429, 429]
        assert [headers["ratelimit"].partition(";t")[0] for _, headers in answered[True]] == [
            '"caller";r=2',
            '"caller";r=1',
            '"caller";r=0',
            '"caller";r=0',
            '"caller";r=0',
        ]
        assert answered[True][-1][1]["retry-after"] == "1"

    @DOORS
    async def test_refuse_before_a_decision_is_made(
        self, open_ai: OpenAi, rows: Rows, door: dict[str, bool]
    ) -> None:
        service = with_fixed_clock(FakeAllowances(allowance(requests_per_second=2)))
        async with open_ai(service=service, **door) as ai:
            caller = await Caller(ai).known()
            answers = [await caller.score(f"tx-{number}") for number in range(3)]

        assert [each.status_code for each in answers] == [200, 429, 429]
        assert answers[-1].json()["type"] == "urn:assay:problem:rate-limited"
        assert rows.decided() == {OURS: 1}

    @DOORS
    async def test_are_told_with_every_answer(self, open_ai: OpenAi, door: dict[str, bool]) -> None:
        async with open_ai(service=allowing(FakeAllowances(PLENTY)), **door) as ai:
            caller = await Caller(ai).known()
            good, bad = await caller.score("tx-1"), await caller.score("tx-2", amount="-1")

        for response, status in ((good, 200), (bad, 422)):
            assert response.status_code == status
            assert response.headers["RateLimit-Policy"] == '"caller";q=100000;w=1, "institution";q=100000;w=1'
            assert response.headers["RateLimit"].count(";r=9999") == 2


def with_fixed_clock(allowances: Allowances) -> Service[AiSettings]:
    """Return the service with rate limits for which no time passes."""

    @asynccontextmanager
    async def built(settings: AiSettings) -> AsyncIterator[Mapping[str, Any]]:
        limits = RateLimits(
            unauthenticated_per_minute=1000,
            failures_per_minute=1000,
            allowances=allowances,
            clock=Clock(),
        )
        async with build(settings, allowances=allowances) as state:
            yield {**state, "rate_limits": limits}

    return replace(SERVICE, build=built)


def comparable(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in {"x-request-id", "content-length"}}


async def _began(begun: int) -> bool:
    return begun > 0


async def _is_left(rows: Rows, count: int) -> bool:
    """Say whether so many rows wait in the outbox."""
    return rows.count(outbox) == count
