"""Which of our services may get a token, and what each token is good for."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from pydantic import SecretStr

from common.auth.principal import UnauthenticatedError
from common.contracts.tokens import Scope, ServiceTokenRequest

SCOPES_BY_CLIENT: Mapping[str, tuple[Scope, ...]] = {
    "ai_service": (
        Scope.ALERTS_WRITE,
        Scope.AUDIT_WRITE,
        Scope.GEOIP_READ,
        Scope.RATES_READ,
        Scope.NOTICES_WRITE,
        Scope.ACCESS_READ,
        Scope.KEY_USE_WRITE,
    ),
    "alert_service": (Scope.RECIPIENTS_READ, Scope.ACCESS_READ, Scope.KEY_USE_WRITE),
    "log_service": (Scope.ACCESS_READ, Scope.KEY_USE_WRITE),
    "external_apis_services": (Scope.ACCESS_READ, Scope.KEY_USE_WRITE),
    "operator": (Scope.GEOIP_CONTROL,),
}


OWN_SCOPES = (Scope.AUDIT_WRITE, Scope.NOTICES_WRITE)
"""What user_service's own token is good for, which it gives to itself."""


class InvalidClientError(UnauthenticatedError):
    """No such client, a wrong secret, or a client that has none; which of them is not said."""

    type = "invalid-client"
    title = "The client id and secret do not fit"


class ServiceClients:
    """The secrets of our services. One without a secret gets no token."""

    def __init__(self, secret_by_client: Mapping[str, SecretStr]) -> None:
        self._digests = {
            client: _digest(secret)
            for client, secret in secret_by_client.items()
            if secret.get_secret_value()
        }
        self._nobody = secrets.token_bytes(32)

    def has(self, client_id: str) -> bool:
        """Say whether there is such a client, and it has a secret."""
        return client_id in self._digests

    def scopes_of(self, request: ServiceTokenRequest) -> tuple[Scope, ...]:
        """Return what the client may do; raises `InvalidClientError`. The time taken tells nothing."""
        expected = self._digests.get(request.client_id, self._nobody)
        if not hmac.compare_digest(_digest(request.client_secret), expected):
            raise InvalidClientError
        return SCOPES_BY_CLIENT[request.client_id]


def _digest(secret: SecretStr) -> bytes:
    return hashlib.sha256(secret.get_secret_value().encode("utf-8", "surrogatepass")).digest()
