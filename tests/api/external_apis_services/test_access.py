import pytest

from common.contracts.tokens import Scope
from external_apis_services.main import app
from tests.api.external_apis_services.conftest import RunningService

ROUTES = {
    ("GET", "/v1/internal/geoip/8.8.8.8"): Scope.GEOIP_READ,
    ("POST", "/v1/internal/geoip/batch"): Scope.GEOIP_READ,
    ("GET", "/v1/internal/geoip/mock"): Scope.GEOIP_CONTROL,
    ("PUT", "/v1/internal/geoip/mock"): Scope.GEOIP_CONTROL,
    ("GET", "/v1/internal/rates?base_currency=EUR"): Scope.RATES_READ,
}
BODIES = {
    ("POST", "/v1/internal/geoip/batch"): {"ip_addresses": ["8.8.8.8"]},
    ("PUT", "/v1/internal/geoip/mock"): {},
}


async def call(service: RunningService, route: tuple[str, str], token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    method, path = route
    response = await service.client.request(method, path, headers=headers, json=BODIES.get(route))
    return response.status_code


@pytest.mark.parametrize("route", ROUTES)
class TestAccess:
    async def test_is_given_to_a_service_with_the_scope(
        self, service: RunningService, route: tuple[str, str]
    ) -> None:
        assert await call(service, route, service.users.service_token(ROUTES[route])) == 200

    async def test_is_refused_to_a_service_with_every_other_scope(
        self, service: RunningService, route: tuple[str, str]
    ) -> None:
        others = [scope for scope in Scope if scope is not ROUTES[route]]

        assert await call(service, route, service.users.service_token(*others)) == 403

    async def test_is_refused_to_a_user_whatever_the_scopes(
        self, service: RunningService, route: tuple[str, str]
    ) -> None:
        assert await call(service, route, service.users.user_token(scopes=tuple(Scope))) == 403

    async def test_is_refused_without_a_token_that_can_be_trusted(
        self, service: RunningService, route: tuple[str, str]
    ) -> None:
        assert await call(service, route, None) == 401
        assert await call(service, route, "no.such.token") == 401
        expired = service.users.service_token(ROUTES[route], iat=1_700_000_000, exp=1_700_000_900)
        assert await call(service, route, expired) == 401


class TestRoutes:
    def test_are_all_listed_here(self) -> None:
        paths = app.openapi()["paths"]
        internal = {
            (method.upper(), path)
            for path, found in paths.items()
            for method in found
            if path.startswith("/v1")
        }
        listed = {(method, path.split("?")[0].replace("8.8.8.8", "{ip_address}")) for method, path in ROUTES}

        assert internal == listed

    def test_are_documented_with_their_refusals(self) -> None:
        for path, found in app.openapi()["paths"].items():
            if path.startswith("/v1"):
                for operation in found.values():
                    assert operation["description"]
                    assert {"200", "401", "403"} <= set(operation["responses"])
