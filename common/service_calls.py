"""What a service needs to be called and to call: public keys, who may get in, its own token, clients of the others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from common.auth.access import AccessState
from common.auth.access_feed import AccessFeedClient
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
    access_feed: AccessFeedClient
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

    async def access_known(self) -> bool:
        """Readiness: whether it was ever known who may get in."""
        return self.access_feed.state.loaded

    async def token_available(self) -> bool:
        """Readiness: whether the other services can be called."""
        return self.tokens.available


@asynccontextmanager
async def open_service_calls(settings: ServiceSettings, *, client_id: str) -> AsyncIterator[ServiceCalls]:
    """Start keeping keys, the service token and who may get in fresh; stop when the block ends."""
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
        access = AccessFeedClient(users, tokens, AccessState(), poll_s=settings.access_poll_s)
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        verifier = TokenVerifier(keys, expected=expected, access=access.state, look_again=access.look_again)
        loops = (keys.keep_fresh, tokens.keep_fresh, access.keep_fresh, access.keep_telling)
        async with running(*loops):
            yield ServiceCalls(verifier, keys, tokens, access, clients)
