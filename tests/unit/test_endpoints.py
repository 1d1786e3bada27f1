"""What is true of every endpoint of every service."""

import inspect
from collections.abc import Iterable, Iterator

import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from common.auth.bearer import authenticate
from common.rate_limits.limiting import count_unauthenticated
from common.strict_json import StrictRoute
from tests.openapi import APPS


def api_routes(routes: Iterable[object]) -> Iterator[APIRoute]:
    """Find every route, also in routers that were included whole."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(router := getattr(route, "original_router", None), APIRouter):
            yield from api_routes(router.routes)


def dependencies(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from dependencies(each)


@pytest.mark.parametrize("name", sorted(APPS))
def test_no_endpoint_hops_to_a_thread(name: str) -> None:
    """FastAPI runs plain functions in a thread pool, which costs more than everything they do."""
    routes = list(api_routes(APPS[name].routes))
    calls = [call for route in routes for call in (route.endpoint, *dependencies(route.dependant))]

    plain = [
        call
        for call in calls
        if not any(
            check(each)
            for check in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
            for each in (call, getattr(call, "__call__", None))  # noqa: B004 - instances that can be called
        )
    ]

    assert len(routes) >= 5
    assert plain == []


@pytest.mark.parametrize("name", sorted(APPS))
def test_every_endpoint_of_the_api_is_strict(name: str) -> None:
    """The caller before the body, no unknown parameter, JSON that can be read in one way only."""
    routes = [route for route in api_routes(APPS[name].routes) if route.path.startswith("/v1")]

    assert routes
    assert [route.path for route in routes if not isinstance(route, StrictRoute)] == []


@pytest.mark.parametrize("name", sorted(APPS))
def test_every_route_without_authentication_counts_its_requests(name: str) -> None:
    """All but those that are asked all the time, by whoever runs the service."""
    unlimited = {"/health", "/ready", "/metrics", "/.well-known/jwks.json"}

    open_to_all = [
        route for route in api_routes(APPS[name].routes) if authenticate not in dependencies(route.dependant)
    ]

    uncounted = {
        route.path
        for route in open_to_all
        if not isinstance(route, StrictRoute) and count_unauthenticated not in dependencies(route.dependant)
    }
    assert uncounted == unlimited & {route.path for route in open_to_all}
    assert {"/docs", "/openapi.json"} <= {route.path for route in open_to_all}
