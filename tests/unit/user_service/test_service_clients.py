import pytest
from pydantic import SecretStr

from common.contracts.tokens import Scope, ServiceTokenRequest
from user_service.auth.service_clients import SCOPES_BY_CLIENT, InvalidClientError, ServiceClients

SECRET = "a secret that is long enough for tests"


def request(client_id: str, secret: str = SECRET) -> ServiceTokenRequest:
    return ServiceTokenRequest(client_id=client_id, client_secret=SecretStr(secret))


class TestScopesOf:
    @pytest.mark.parametrize(
        ("client_id", "scopes"),
        [
            (
                "ai_service",
                {"alerts:write", "audit:write", "geoip:read", "rates:read"}
                | {"notices:write", "access:read", "key_use:write"},
            ),
            ("alert_service", {"recipients:read", "access:read", "key_use:write"}),
            ("log_service", {"access:read", "key_use:write"}),
            ("external_apis_services", {"access:read", "key_use:write"}),
            ("operator", {"geoip:control"}),
        ],
    )
    def test_is_the_fixed_list_of_the_client(self, client_id: str, scopes: set[Scope]) -> None:
        clients = ServiceClients(dict.fromkeys(SCOPES_BY_CLIENT, SecretStr(SECRET)))

        assert set(clients.scopes_of(request(client_id))) == scopes

    @pytest.mark.parametrize("secret", ["", "wrong", SECRET + " ", SECRET[:-1], "\ud800"])
    def test_refuses_a_wrong_secret(self, secret: str) -> None:
        clients = ServiceClients({"ai_service": SecretStr(SECRET)})

        with pytest.raises(InvalidClientError):
            clients.scopes_of(request("ai_service", secret))

    def test_refuses_the_secret_of_another_client(self) -> None:
        clients = ServiceClients({"ai_service": SecretStr(SECRET), "operator": SecretStr(SECRET[::-1])})

        with pytest.raises(InvalidClientError):
            clients.scopes_of(request("operator", SECRET))

    @pytest.mark.parametrize("secret", ["", SECRET])
    def test_refuses_a_client_that_has_no_secret(self, secret: str) -> None:
        clients = ServiceClients({"ai_service": SecretStr("")})

        with pytest.raises(InvalidClientError):
            clients.scopes_of(request("ai_service", secret))

    def test_refuses_an_unknown_client(self) -> None:
        clients = ServiceClients({"ai_service": SecretStr(SECRET)})

        with pytest.raises(InvalidClientError):
            clients.scopes_of(request("nobody"))
