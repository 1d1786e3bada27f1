"""How many requests a client, a caller and an institution may send, and what answers say of it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from common.auth.gate import Expected
from common.auth.keys import TokenVerifier
from common.contracts.tokens import Scope
from common.metrics import metrics_response
from common.rate_limits.limiting import NoAllowances, RateLimits
from common.settings import ServiceSettings
from tests.api.common.conftest import Tiny, assert_problem
from tests.api.common.test_access import OwnKey, bearer, guarded
from tests.fakes import FakeAllowances, FakeUserService, allowance
from tests.unit.common.rate_limits.clocks import Clock

PROXIES = {"trusted_proxies": ["10.0.0.0/8"]}
PROXY = "10.0.0.1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> FakeUserService:
    return FakeUserService()


@pytest.fixture
def tiny(issuer: FakeUserService, clock: Clock) -> Tiny:
    limits = RateLimits(
        unauthenticated_per_minute=4,
        failures_per_minute=6,
        allowances=FakeAllowances(allowance(requests_per_second=5, caller_requests_per_second=3)),
        clock=clock,
    )
    verifier = TokenVerifier(OwnKey(issuer), expected=Expected(issuer="assay", audience="assay"))
    return Tiny(state={"token_verifier": verifier, "rate_limits": limits}, routers=[guarded()])


@pytest.fixture
async def client(tiny: Tiny) -> AsyncIterator[httpx.AsyncClient]:
    async with tiny.open() as opened:
        yield opened


async def statuses(
    client: httpx.AsyncClient,
    times: int,
    path: str = "/v1/things/1",
    **how: Any,  # noqa: ANN401 - as httpx has it
) -> list[int]:
    return [(await client.get(path, **how)).status_code for _ in range(times)]


def forwarded(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


class TestUnauthenticatedRequests:
    async def test_are_refused_beyond_their_number(self, client: httpx.AsyncClient) -> None:
        assert await statuses(client, 4) == [200] * 4

        response = await client.get("/v1/things/1")

        assert_problem(response, 429, "rate-limited")
        assert response.headers["Retry-After"] == "60"
        assert response.headers["RateLimit-Policy"] == '"address";q=4;w=60'
        assert response.headers["RateLimit"] == '"address";r=0;t=60'

    async def test_hear_how_many_are_left(self, client: httpx.AsyncClient, clock: Clock) -> None:
        clock.now += 20

        response = await client.get("/v1/things/1")

        assert response.headers["RateLimit"] == '"address";r=3;t=41'
        assert response.headers["RateLimit-Policy"] == '"address";q=4;w=60'

    async def test_share_one_number_whatever_the_route_and_whatever_comes_of_them(
        self, client: httpx.AsyncClient
    ) -> None:
        await client.get("/v1/things/x")
        await client.post("/v1/things", content=b"{", headers={"Content-Type": "application/json"})
        await client.get("/docs")
        await client.get("/openapi.json")

        for path in ("/v1/things/1", "/v1/things/x", "/docs", "/docs/swagger-ui.js", "/openapi.json"):
            assert_problem(await client.get(path), 429, "rate-limited")

    async def test_are_taken_again_when_the_time_has_come(
        self, client: httpx.AsyncClient, clock: Clock
    ) -> None:
        await statuses(client, 4)
        wait_s = int((await client.get("/v1/things/1")).headers["Retry-After"])

        clock.now += wait_s + 0.01

        assert await statuses(client, 2) == [200, 429]

    async def test_do_not_count_where_everybody_may_ask_all_the_time(self, client: httpx.AsyncClient) -> None:
        await statuses(client, 5)

        for path in ("/health", "/ready", "/metrics"):
            assert await statuses(client, 10, path) == [200] * 10
            assert "RateLimit" not in (await client.get(path)).headers

    async def test_that_are_refused_are_counted(self, client: httpx.AsyncClient) -> None:
        before = refused("address")

        await statuses(client, 6)

        assert refused("address") == before + 2


class TestClients:
    async def test_cannot_choose_their_address(self, client: httpx.AsyncClient) -> None:
        await statuses(client, 4)

        for number in range(5):
            response = await client.get("/v1/things/1", headers=forwarded(f"198.51.100.{number}"))
            assert response.status_code == 429

    async def test_behind_a_trusted_proxy_are_told_apart(self, tiny: Tiny) -> None:
        async with tiny.open(peer=PROXY, **PROXIES) as client:
            assert await statuses(client, 5, headers=forwarded("198.51.100.1")) == [200] * 4 + [429]
            assert await statuses(client, 1, headers=forwarded("198.51.100.2")) == [200]

    async def test_behind_it_cannot_choose_either(self, tiny: Tiny) -> None:
        async with tiny.open(peer=PROXY, **PROXIES) as client:
            answers = [
                await client.get("/v1/things/1", headers=forwarded(f"192.0.2.{number}, 198.51.100.1"))
                for number in range(5)
            ]

        assert [answer.status_code for answer in answers] == [200] * 4 + [429]

    async def test_are_a_whole_64_of_ipv6(self, tiny: Tiny) -> None:
        async with tiny.open(peer=PROXY, **PROXIES) as client:
            one_network = [
                (await client.get("/v1/things/1", headers=forwarded(f"2001:db8::{number:x}"))).status_code
                for number in range(1, 6)
            ]
            other = await client.get("/v1/things/1", headers=forwarded("2001:db8:0:1::1"))

        assert one_network == [200] * 4 + [429]
        assert other.status_code == 200


class TestFailures:
    async def test_beyond_their_number_are_told_to_come_later(self, client: httpx.AsyncClient) -> None:
        assert await statuses(client, 6, "/v1/anyone", headers=bearer("wrong")) == [401] * 6

        response = await client.get("/v1/anyone", headers=bearer("wrong"))

        assert_problem(response, 429, "rate-limited")
        assert response.headers["RateLimit-Policy"] == '"failures";q=6;w=60'
        assert int(response.headers["Retry-After"]) >= 60

    async def test_of_others_at_an_address_do_not_keep_a_new_token_out(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        assert await statuses(client, 8, "/v1/anyone", headers=bearer("x")) == [401] * 6 + [429] * 2

        new = bearer(issuer.user_token())

        assert await statuses(client, 2, "/v1/anyone", headers=new) == [200] * 2

    @pytest.mark.parametrize("headers", [{}, bearer("x"), {"Authorization": "Basic eDp5"}])
    async def test_of_every_kind_count(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        assert await statuses(client, 8, "/v1/anyone", headers=headers) == [401] * 6 + [429] * 2

    async def test_do_not_trouble_callers_who_were_verified_before(
        self, client: httpx.AsyncClient, issuer: FakeUserService, clock: Clock
    ) -> None:
        token = bearer(issuer.user_token())
        await statuses(client, 1, "/v1/anyone", headers=token)

        for _ in range(10):
            await statuses(client, 2, "/v1/anyone", headers=bearer("wrong"))
            clock.now += 1
            assert await statuses(client, 1, "/v1/anyone", headers=token) == [200]

    async def test_are_not_what_good_callers_spend(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        for number in range(20):
            token = bearer(issuer.user_token(sub=f"usr_{number}", institution_id=f"ins_{number}"))
            assert await statuses(client, 1, "/v1/anyone", headers=token) == [200]

        assert await statuses(client, 1, "/v1/anyone") == [401]

    async def test_leave_other_addresses_alone(self, tiny: Tiny) -> None:
        async with tiny.open(peer=PROXY, **PROXIES) as client:
            await statuses(client, 9, "/v1/anyone", headers=forwarded("198.51.100.1"))

            assert await statuses(client, 1, "/v1/anyone", headers=forwarded("198.51.100.2")) == [401]


class TestCallers:
    async def test_hear_what_they_and_their_institution_have_left(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        response = await client.get("/v1/anyone", headers=bearer(issuer.user_token()))

        assert response.headers["RateLimit-Policy"] == '"caller";q=3;w=1, "institution";q=5;w=1'
        assert response.headers["RateLimit"] == '"caller";r=2;t=1, "institution";r=4;t=1'

    async def test_hear_so_whatever_they_are_answered(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        token = bearer(issuer.user_token())

        refused_body = await client.post("/v1/thing", content=b"{", headers=token)
        forbidden = await client.get("/v1/service", headers=token)

        assert (refused_body.status_code, forbidden.status_code) == (415, 403)
        assert refused_body.headers["RateLimit"].startswith('"caller";r=2')
        assert forbidden.headers["RateLimit"].startswith('"caller";r=1')

    async def test_are_refused_beyond_their_number(
        self, client: httpx.AsyncClient, issuer: FakeUserService, clock: Clock
    ) -> None:
        token = bearer(issuer.user_token())
        assert await statuses(client, 3, "/v1/anyone", headers=token) == [200] * 3

        response = await client.get("/v1/anyone", headers=token)

        assert_problem(response, 429, "rate-limited")
        assert response.headers["Retry-After"] == "1"
        assert response.headers["RateLimit"] == '"caller";r=0;t=1, "institution";r=2;t=1'
        clock.now += 2
        assert await statuses(client, 1, "/v1/anyone", headers=token) == [200]

    async def test_share_the_number_of_their_institution(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        tokens = [bearer(issuer.user_token(sub=f"usr_{number}")) for number in range(6)]

        answers = [(await client.get("/v1/anyone", headers=token)).status_code for token in tokens]

        assert answers == [200] * 5 + [429]

    async def test_that_are_our_own_services_have_no_bound(
        self, client: httpx.AsyncClient, issuer: FakeUserService
    ) -> None:
        token = bearer(issuer.service_token(Scope.AUDIT_WRITE))

        assert await statuses(client, 20, "/v1/service", headers=token) == [200] * 20


class TestSettings:
    async def test_bound_what_one_address_may_ask(self) -> None:
        async with Tiny().open(unauthenticated_per_minute=1) as client:
            response = await client.get("/v1/things/1")

        assert response.headers["RateLimit-Policy"] == '"address";q=1;w=60'

    def test_are_a_hundred_a_minute_and_no_proxy_unless_somebody_says_so(self) -> None:
        defaults = {name: field.default for name, field in ServiceSettings.model_fields.items()}

        assert defaults["unauthenticated_per_minute"] == 100
        assert defaults["failed_authentications_per_minute"] == 600
        assert defaults["trusted_proxies"] == []

    def test_are_read_as_networks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRUSTED_PROXIES", '["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]')

        read = ServiceSettings(_env_file=None).trusted_proxies

        assert [str(network) for network in read] == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]

    async def test_without_allowances_bound_no_caller(self, issuer: FakeUserService, clock: Clock) -> None:
        limits = RateLimits(
            unauthenticated_per_minute=1, failures_per_minute=1, allowances=NoAllowances(), clock=clock
        )
        verifier = TokenVerifier(OwnKey(issuer), expected=Expected(issuer="assay", audience="assay"))
        tiny = Tiny(state={"token_verifier": verifier, "rate_limits": limits}, routers=[guarded()])
        token = bearer(issuer.user_token())

        async with tiny.open() as client:
            assert await statuses(client, 30, "/v1/anyone", headers=token) == [200] * 30


def refused(policy: str) -> float:
    """Return how many requests were refused by a policy, as /metrics says."""
    name = f'assay_rate_limited_total{{policy="{policy}"}} '
    lines = bytes(metrics_response().body).decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))
