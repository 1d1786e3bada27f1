"""What a service needs to be called and to call: public keys, its own token, one client for each other service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from common.auth.gate import Expected
from common.auth.keys import PublicKeys, TokenVerifier
from common.auth.service_tokens import ServiceTokens
from common.background import running
from common.contracts.tokens import ServiceTokenRequest
from common.delivery import Courier, courier
from common.http import service_client
from common.settings import ServiceSettings

USER_SERVICE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ServiceCalls:
    """Everything that depends on user_service, kept fresh in the background."""

    verifier: TokenVerifier
    keys: PublicKeys
    tokens: ServiceTokens
    _clients: AsyncExitStack

    async def client(self, base_url: str, *, timeout_s: float) -> httpx.AsyncClient:
        """Return a client for `base_url` that is closed when the service stops."""
        return await self._clients.enter_async_context(service_client(base_url, timeout_s=timeout_s))

    async def courier(self, base_url: str, *, timeout_s: float) -> Courier:
        """Return what posts to `base_url` for every batch, closed when the service stops."""
        return await self._clients.enter_async_context(courier(base_url, timeout_s=timeout_s))

    async def keys_loaded(self) -> bool:
        """Readiness: whether tokens can be verified."""
        return self.keys.loaded

    async def token_available(self) -> bool:
        """Readiness: whether the other services can be called."""
        return self.tokens.available


@asynccontextmanager
async def open_service_calls(settings: ServiceSettings, *, client_id: str) -> AsyncIterator[ServiceCalls]:
    """Start keeping keys and the service token fresh; stop when the block ends."""
    async with AsyncExitStack() as clients:
        users = await clients.enter_async_context(
            service_client(settings.user_service_url, timeout_s=USER_SERVICE_TIMEOUT_S)
        )
        keys = PublicKeys(users)
        tokens = ServiceTokens(
            users,
            credentials=ServiceTokenRequest(
                client_id=client_id, client_secret=settings.service_client_secret
            ),
        )
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        async with running(keys.keep_fresh, tokens.keep_fresh):
            yield ServiceCalls(TokenVerifier(keys, expected=expected), keys, tokens, clients)
