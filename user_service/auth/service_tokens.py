"""Tokens for our own services, against client credentials."""

from dataclasses import dataclass

from common.contracts.tokens import ServiceToken, ServiceTokenRequest
from common.logging import add_facts
from user_service.auth.service_clients import ServiceClients
from user_service.auth.tokens import TokenIssuer


@dataclass(frozen=True)
class ServiceTokenDesk:
    """Hands out service tokens."""

    clients: ServiceClients
    issuer: TokenIssuer

    def counted_as(self, request: ServiceTokenRequest) -> str:
        """Return for whom a failure counts; whoever makes names up counts as one."""
        return request.client_id if self.clients.has(request.client_id) else ""

    def issue(self, request: ServiceTokenRequest, *, now_ms: int) -> ServiceToken:
        """Return a token with the client's scopes; raises `InvalidClientError`."""
        scopes = self.clients.scopes_of(request)
        add_facts(client=request.client_id)
        token = self.issuer.for_service(request.client_id, scopes=scopes, now_ms=now_ms)
        return ServiceToken(access_token=token.text, expires_in=token.expires_in)
