"""docs/authorization.yaml against the real routes: everybody tries everything, by every way in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.openapi import APPS
from tests.security.callers import WORDS, Caller
from tests.security.conftest import OpenWorld
from tests.security.policy import ANYONE, ServicePolicy, load_policy
from tests.security.requests import must_succeed, parts
from tests.security.routes import Endpoint, endpoints
from tests.security.tally import Tally
from tests.security.worlds import World

SERVICES = sorted(APPS)
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
REWRITES = ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Forwarded-Prefix")


@dataclass(frozen=True)
class Expectation:
    """How a request may end."""

    words: str
    statuses: frozenset[int]

    def fits(self, response: httpx.Response) -> bool:
        """Say whether it ended so, as a problem of the right kind where it was refused."""
        if response.status_code not in self.statuses:
            return False
        if response.status_code not in {401, 403, 404, 405} or response.request.method == "HEAD":
            return True
        return response.headers["Content-Type"] == "application/problem+json"


def only(words: str, *statuses: int) -> Expectation:
    return Expectation(words, frozenset(statuses))


UNKNOWN = only("is not known: 401", 401)
FORBIDDEN = only("may not: 403", 403)
NOT_THERE = only("belongs to another institution: 404", 404)
NOT_SUCH = only("is there for nobody: 404 or 422", 404, 422)
NO_ROUTE = only("is no route: 404 or 405", 404, 405)
SUCCESS = Expectation("may: 2xx", frozenset(range(200, 300)))
LET_THROUGH = Expectation(
    "may: anything but a refusal or a failure", frozenset(range(200, 500)) - {401, 403, 405}
)


def expected(policy: ServicePolicy, caller: Caller, endpoint: Endpoint) -> Expectation:
    """Say how a good request of `caller` ends."""
    if not policy.is_open(endpoint):
        if not caller.is_known:
            return UNKNOWN
        if not policy.may(caller.word, endpoint):
            return FORBIDDEN
        if caller.elsewhere and policy.is_owned(endpoint):
            return NOT_THERE
    return SUCCESS if must_succeed(str(endpoint)) else LET_THROUGH


def in_order(world: World, policy: ServicePolicy, endpoint: Endpoint) -> list[Caller]:
    """Return everybody, those who are refused first: what the others do may change what there is."""
    return sorted(world.callers, key=lambda caller: (policy.may(caller.word, endpoint), not caller.elsewhere))


async def send(
    world: World, method: str, path: str, endpoint: Endpoint, caller: Caller, **headers: str
) -> httpx.Response:
    """Send what is a good request of `endpoint` to any method and path."""
    return await world.client.request(
        method,
        f"http://testserver{path}",
        headers=[*caller.headers, *headers.items()],
        **parts(str(endpoint)),
    )


def said(caller: Caller, line: str, wanted: Expectation, response: httpx.Response) -> str:
    return f"{caller.name} {line}: {wanted.words}, got {response.status_code} {response.text[:120]}"


class TestPolicy:
    @pytest.mark.parametrize("service", SERVICES)
    def test_names_every_route_of_every_service_and_no_other(self, service: str) -> None:
        assert set(load_policy()[service].callers) == endpoints(APPS[service])

    def test_is_about_the_services_there_are(self) -> None:
        assert sorted(load_policy()) == SERVICES

    @pytest.mark.parametrize("service", SERVICES)
    def test_speaks_of_callers_the_tests_know(self, service: str) -> None:
        words = set().union(*load_policy()[service].callers.values())

        assert words - WORDS == {ANYONE}

    def test_lets_nobody_use_internal_routes_but_services(self) -> None:
        words = {
            word
            for policy in load_policy().values()
            for endpoint in policy.protected
            if endpoint.path.startswith("/v1/internal/")
            for word in policy.callers[endpoint]
        }

        assert {word for word in words if not word.startswith("service:")} == set()

    def test_lets_services_use_internal_routes_only(self) -> None:
        paths = {
            endpoint.path
            for policy in load_policy().values()
            for endpoint in policy.protected
            if any(word.startswith("service:") for word in policy.callers[endpoint])
        }

        assert {path for path in paths if not path.startswith("/v1/internal/")} == set()


@pytest.mark.parametrize("service", SERVICES)
class TestEveryCaller:
    async def test_gets_what_the_policy_says_on_every_route(
        self, service: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        """Each request is sent twice: the second time the credentials have been seen before."""
        policy, tried, wrong = load_policy()[service], 0, []
        async with open_world(service) as world:
            assert len({caller.word for caller in world.callers}) >= 12
            for endpoint in sorted(policy.callers):
                path = world.path(endpoint)
                for caller in [*(callers := in_order(world, policy, endpoint)), *callers]:
                    wanted = expected(policy, caller, endpoint)
                    response = await send(world, endpoint.method, path, endpoint, caller)
                    tried += 1
                    if not wanted.fits(response):
                        wrong.append(said(caller, str(endpoint), wanted, response))

        tally.add("authorization: caller, method and route", tried, wrong)
        assert wrong == []

    async def test_gets_no_further_by_another_method(
        self, service: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        """Every other method, with headers that name the right one."""
        policy, tried, wrong = load_policy()[service], 0, []
        async with open_world(service) as world:
            for endpoint in sorted(policy.protected):
                path = world.path(endpoint)
                claimed = dict.fromkeys(OVERRIDES, endpoint.method)
                for method in METHODS:
                    if policy.match(method, path) is not None:
                        continue
                    for caller in world.representatives:
                        response = await send(world, method, path, endpoint, caller, **claimed)
                        tried += 1
                        if not NO_ROUTE.fits(response):
                            wrong.append(said(caller, f"{method} {endpoint.path}", NO_ROUTE, response))

        tally.add("authorization: another method", tried, wrong)
        assert wrong == []

    async def test_gets_no_further_by_another_spelling_of_the_path(
        self, service: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        policy, tried, wrong = load_policy()[service], 0, []
        async with open_world(service) as world:
            for endpoint in sorted(policy.protected):
                for path in spellings(world.path(endpoint)):
                    real = policy.match(endpoint.method, path)
                    for caller in world.representatives:
                        response = await send(world, endpoint.method, path, endpoint, caller)
                        wanted = NO_ROUTE if real is None else respelled(policy, caller, real)
                        tried += 1
                        if not wanted.fits(response):
                            wrong.append(said(caller, f"{endpoint.method} {path}", wanted, response))

        tally.add("authorization: another spelling of the path", tried, wrong)
        assert wrong == []

    async def test_gets_no_further_by_headers_that_name_another_path_or_method(
        self, service: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        policy, tried, wrong = load_policy()[service], 0, []
        async with open_world(service) as world:
            for endpoint in sorted(policy.protected):
                path = world.path(endpoint)
                for caller in in_order(world, policy, endpoint):
                    elsewhere = await send(
                        world, "GET", "/health", endpoint, caller, **dict.fromkeys(REWRITES, path)
                    )
                    overridden = await send(
                        world, endpoint.method, path, endpoint, caller, **dict.fromkeys(OVERRIDES, "GET")
                    )
                    wanted = expected(policy, caller, endpoint)
                    tried += 2
                    if elsewhere.json() != {"status": "alive"}:
                        wrong.append(said(caller, f"GET /health for {endpoint.path}", SUCCESS, elsewhere))
                    if not wanted.fits(overridden):
                        wrong.append(said(caller, str(endpoint), wanted, overridden))

        tally.add("authorization: headers that name another path or method", tried, wrong)
        assert wrong == []


class TestRefusals:
    async def test_are_logged_with_who_was_refused(
        self, open_world: OpenWorld, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with open_world("log_service", log_level="info") as world:
            viewer = next(caller for caller in world.callers if caller.word == "viewer")
            path = world.path(Endpoint("GET", "/v1/audit/days/{day}"))
            await world.client.get(path, headers=[*viewer.headers])
            await world.client.get(path)

        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"status":40' in line]
        assert [(line["status"], line.get("caller")) for line in lines] == [(403, "usr_viewer"), (401, None)]
        assert {line["route"] for line in lines} == {"/v1/audit/days/{day}"}


def spellings(path: str) -> Iterator[str]:
    """Return paths that a careless server would take for `path`."""
    yield path + "/"
    yield path.upper()
    yield "/" + path
    yield path.replace("/", "//", 2)
    yield path.rpartition("/")[0] + "//" + path.rpartition("/")[2]
    yield "/%2e" + path
    yield "/health/%2e%2e" + path
    yield path + ";x=y"
    yield path + "%00"
    yield path + "%20"
    yield path + ".json"
    yield path.replace("/", "%2F").replace("%2F", "/", 1)
    yield path.replace("/", "\\").replace("\\", "/", 1)


def respelled(policy: ServicePolicy, caller: Caller, real: Endpoint) -> Expectation:
    """Say how a request ends whose path is another spelling, but of a route that takes it."""
    wanted = expected(policy, caller, real)
    return {SUCCESS: LET_THROUGH, NOT_THERE: NOT_SUCH}.get(wanted, wanted)
