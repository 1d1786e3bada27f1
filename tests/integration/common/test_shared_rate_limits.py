"""Rate limits that processes count together in a real Valkey, and alone while it is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.auth.principal import Principal
from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import TokenUse
from common.headers import RATE_LIMITS
from common.rate_limits.limiting import RateLimitedError, RateLimits
from common.rate_limits.shared import SharedCounts
from common.rate_limits.windows import Policy
from common.valkey.calls import ValkeyCalls, open_valkey
from tests.api.common.conftest import Tiny
from tests.api.common.test_access import OwnKey, bearer, guarded
from tests.fakes import FakeAllowances, FakeUserService, allowance
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import PATIENCE_S, eventually

PLENTY = allowance(requests_per_second=1000, caller_requests_per_second=500)


def caller(subject: str = "usr_a", institution_id: str = "ins_a") -> Principal:
    institution = Institution(institution_id=institution_id, mode=InstitutionMode.LIVE, base_currency="EUR")
    return Principal(
        TokenUse.USER, subject, frozenset(), "tok_1", 2**40, institution=institution, session_id="ses_1"
    )


def limits_over(calls: ValkeyCalls, allowed: Any = PLENTY, *, service: str = "tiny") -> RateLimits:  # noqa: ANN401
    return RateLimits(
        unauthenticated_per_minute=5,
        failures_per_minute=5,
        allowances=FakeAllowances(allowed),
        shared=SharedCounts(calls, service=service),
    )


@asynccontextmanager
async def processes(url: str, count: int) -> AsyncIterator[list[ValkeyCalls]]:
    """Yield connections of their own to one Valkey, as so many processes have them."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_valkey(SecretStr(url), timeout_s=PATIENCE_S))
            for _ in range(count)
        ]
        for calls in opened:
            await calls.call("PING")
        yield opened


@pytest.fixture
async def calls(valkey_url: str) -> AsyncIterator[ValkeyCalls]:
    async with processes(valkey_url, 1) as (opened,):
        yield opened


async def early_in_a_second(server: ValkeyServer) -> None:
    """Wait until a window has begun, so that what follows is within one."""
    with server.client() as client:
        while True:
            _, microseconds = client.time()
            if microseconds < 200_000:
                return
            await asyncio.sleep((1_000_000 - microseconds) / 1e6)


async def sent(limits: RateLimits, who: Principal, times: int) -> int:
    """Return how many of so many requests at once were let through."""

    async def one() -> bool:
        try:
            await limits.count_caller({}, who)
        except RateLimitedError:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(times))))


class TestProcesses:
    async def test_share_one_budget_exactly_when_all_fire_at_once(
        self, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        async with processes(valkey_url, 3) as opened:
            several = [limits_over(calls) for calls in opened]
            await early_in_a_second(valkey_server)

            let_through = await asyncio.gather(*(sent(limits, caller(), 400) for limits in several))

        assert sum(let_through) == 500  # of 1200, and of one user's 500
        assert len([each for each in let_through if each]) > 1

    async def test_share_what_the_institution_has_between_its_callers(
        self, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        async with processes(valkey_url, 2) as opened:
            first, second = (limits_over(calls) for calls in opened)
            await early_in_a_second(valkey_server)

            let_through = [
                await sent(first, caller("usr_a"), 450),
                await sent(second, caller("usr_b"), 450),
                await sent(first, caller("usr_c"), 450),
            ]
            others = await sent(second, caller("usr_d", "ins_b"), 10)

        assert let_through == [450, 450, 100]
        assert others == 10

    async def test_of_another_service_have_budgets_of_their_own(
        self, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        small = allowance(requests_per_second=5, caller_requests_per_second=5)
        async with processes(valkey_url, 2) as (first, second):
            ours, theirs = limits_over(first, small), limits_over(second, small, service="other")
            await early_in_a_second(valkey_server)

            assert await sent(ours, caller(), 9) == 5
            assert await sent(theirs, caller(), 9) == 5


class TestCallers:
    async def test_hear_what_is_left_as_where_one_process_counts(
        self, calls: ValkeyCalls, valkey_server: ValkeyServer
    ) -> None:
        together, alone = limits_over(calls), RateLimits(
            unauthenticated_per_minute=5, failures_per_minute=5, allowances=FakeAllowances(PLENTY)
        )  # fmt: skip
        await early_in_a_second(valkey_server)
        told: list[list[Any]] = []

        for limits in (together, alone):
            scopes: list[dict[str, Any]] = [{} for _ in range(4)]
            for scope in scopes:
                await limits.count_caller(scope, caller())
                await limits.count_caller(scope, caller())  # counts once
            told.append([scope[RATE_LIMITS] for scope in scopes])

        assert told[0] == told[1]
        assert told[0][-1] == (
            (b"ratelimit-policy", b'"caller";q=500;w=1, "institution";q=1000;w=1'),
            (b"ratelimit", b'"caller";r=496;t=1, "institution";r=996;t=1'),
        )

    async def test_are_refused_with_the_same_words(
        self, calls: ValkeyCalls, valkey_server: ValkeyServer
    ) -> None:
        limits = limits_over(calls, allowance(requests_per_second=5, caller_requests_per_second=3))
        await early_in_a_second(valkey_server)
        for _ in range(3):
            await limits.count_caller({}, caller())
        scope: dict[str, Any] = {}

        with pytest.raises(RateLimitedError) as refused:
            await limits.count_caller(scope, caller())

        assert refused.value.headers == {"Retry-After": "1"}
        assert scope[RATE_LIMITS][1] == (b"ratelimit", b'"caller";r=0;t=1, "institution";r=2;t=1')

    async def test_cost_one_round_trip_with_their_institution(
        self, calls: ValkeyCalls, valkey_server: ValkeyServer
    ) -> None:
        limits = limits_over(calls)
        await limits.count_caller({}, caller())
        with valkey_server.client() as client:
            client.config_resetstat()
            await limits.count_caller({}, caller())
            done = client.info("commandstats")

        sent_by_us = {name for name in done if name not in {"cmdstat_config|resetstat", "cmdstat_info"}}
        # what the function does inside is counted too
        assert sent_by_us == {"cmdstat_fcall", "cmdstat_get", "cmdstat_set", "cmdstat_time"}
        assert done["cmdstat_fcall"]["calls"] == 1

    async def test_leave_nothing_behind(self, calls: ValkeyCalls, valkey_server: ValkeyServer) -> None:
        limits = limits_over(calls)
        await limits.count_caller({}, caller())

        with valkey_server.client() as client:
            keys = client.keys("*")
            left = [client.pttl(key) for key in keys]

        assert sorted(keys) == [b"assay:{ins_a}:rate:tiny", b"assay:{ins_a}:rate:tiny:caller:usr_a"]
        assert all(0 < each <= 2000 for each in left)


class TestWindows:
    async def test_slide_as_those_of_one_process_do(
        self, calls: ValkeyCalls, valkey_server: ValkeyServer
    ) -> None:
        """What came in the window before counts less and less."""
        counts, policy = SharedCounts(calls, service="tiny"), Policy("caller", 100, 1)
        await early_in_a_second(valkey_server)
        for _ in range(100):
            await counts.spend(["assay:{a}:k"], [policy])
        with valkey_server.client() as client:
            await asyncio.sleep(1 - client.time()[1] / 1e6 + 0.01)

        found = await counts.spend(["assay:{a}:k"], [policy])

        assert found is not None
        ((left, window),) = found
        assert window.previous == 100
        assert left == max(-1, 100 - 1 - int(100 * window.ends_in_s))


class TestWithoutValkey:
    async def test_each_process_counts_for_itself_and_nobody_is_refused_for_it(self) -> None:
        small = allowance(requests_per_second=10_000, caller_requests_per_second=50)
        with running_valkey() as server:
            async with processes(server.url, 1) as (calls,):
                limits = limits_over(calls, small)
                await limits.count_caller({}, caller())
                server.process.kill()
                server.process.wait(10)

                began = time.monotonic()
                let_through = await sent(limits, caller(), 400)
                seconds = int(time.monotonic() - began) + 2

        assert 50 <= let_through <= min(400, 50 * seconds)

    async def test_they_count_together_again_when_it_is_back(self, valkey_server: ValkeyServer) -> None:
        with running_valkey() as server:
            port = server.port
            async with processes(server.url, 1) as (calls,):
                limits = limits_over(calls)
                server.process.kill()
                server.process.wait(10)
                await sent(limits, caller(), 10)
                assert calls.is_away or await sent(limits, caller(), 10)
                with running_valkey(port=port) as again:

                    async def is_counted_there() -> bool:
                        await limits.count_caller({}, caller())
                        with again.client() as client:
                            return bool(client.exists("assay:{ins_a}:rate:tiny"))

                    assert await eventually(is_counted_there)

    async def test_a_user_who_may_not_count_there_keeps_no_payer_away(
        self, valkey_url: str, valkey_server: ValkeyServer
    ) -> None:
        with valkey_server.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "-@all", "+get", "+ping")
        url = valkey_url.replace("//", "//reader:word@")
        async with processes(url, 1) as (calls,):
            limits = limits_over(calls, allowance(requests_per_second=5, caller_requests_per_second=3))

            assert 3 <= await sent(limits, caller(), 20) <= 6


class TestClients:
    @pytest.fixture
    async def clients(self, valkey_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
        issuer = FakeUserService()
        verifier = TokenVerifier(OwnKey(issuer), expected=Expected(issuer="assay", audience="assay"))
        async with processes(valkey_url, 2) as opened, AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    Tiny(
                        state={"token_verifier": verifier, "rate_limits": limits_over(calls)},
                        routers=[guarded()],
                    ).open()
                )
                for calls in opened
            ]

    async def test_of_two_processes_have_one_number_a_minute(self, clients: list[httpx.AsyncClient]) -> None:
        answers = await asyncio.gather(*(client.get("/v1/things/1") for client in clients for _ in range(10)))

        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) in {5, 6}  # six where the minute turned meanwhile
        assert statuses.count(429) >= 14
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["RateLimit-Policy"] == '"address";q=5;w=60'
        assert 1 <= int(refused.headers["Retry-After"]) <= 120

    async def test_whose_credentials_are_refused_are_counted_together_and_good_ones_get_in(
        self, clients: list[httpx.AsyncClient]
    ) -> None:
        bad = [await client.get("/v1/anyone", headers=bearer("bad")) for client in clients * 5]

        assert [answer.status_code for answer in bad].count(401) in {5, 6}
        assert bad[-1].status_code == 429

    async def test_are_nowhere_to_be_read(
        self, clients: list[httpx.AsyncClient], valkey_server: ValkeyServer
    ) -> None:
        await clients[0].get("/v1/things/1")

        with valkey_server.client() as client:
            (key,) = client.keys("assay:rate:*")
        assert b"127.0.0.1" not in key
        assert key.startswith(b"assay:rate:tiny:address:")
