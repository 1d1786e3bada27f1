"""What a service needs to be called and to call: public keys, who may get in, its own token, clients of the others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import httpx

from common.auth.access import AccessState
from common.auth.access_feed import AccessFeedClient
from common.auth.access_file import AccessFile
from common.auth.access_keeper import AccessKeeper
from common.auth.access_sharing import SharedAccess
from common.auth.gate import Expected
from common.auth.keys import PublicKeys, TokenVerifier
from common.auth.service_tokens import ServiceTokens
from common.background import running
from common.contracts.tokens import ServiceTokenRequest
from common.delivery import Courier, courier
from common.http import service_client
from common.settings import PLACEHOLDER, ServiceSettings
from common.valkey.calls import ValkeyCalls

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

    async def token_asked(self) -> bool:
        """Readiness: whether the other services can be called, or user_service is away: then what is told waits."""
        return self.tokens.available or self.tokens.unanswered


@asynccontextmanager
async def open_service_calls(
    settings: ServiceSettings, *, client_id: str, valkey: ValkeyCalls | None = None
) -> AsyncIterator[ServiceCalls]:
    """Start keeping keys, the service token and who may get in fresh; stop when the block ends.

    With `valkey` changes are heard of at once, and this service's processes share what they know of who may get in.
    """
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
        shared = _shared_access(settings, valkey, access.state, keys, client_id=client_id)
        keeper = AccessKeeper(_access_file(settings, client_id), access.state, keys, shared=shared)
        await keeper.load()
        clients.push_async_callback(keeper.save)
        expected = Expected(issuer=settings.token_issuer, audience=settings.token_audience)
        verifier = TokenVerifier(keys, expected=expected, access=access.state, look_again=access.look_again)
        loops = [keys.keep_fresh, tokens.keep_fresh, access.keep_fresh, access.keep_telling, keeper.keep]
        if valkey is not None:
            loops.append(partial(access.hear, valkey.messages))
        if shared is not None:
            loops.append(shared.keep)
        async with running(*loops):
            yield ServiceCalls(verifier, keys, tokens, access, clients)


def _access_file(settings: ServiceSettings, client_id: str) -> AccessFile | None:
    """Return where this service keeps what it knows; what another user_service said, or another issuer, is not its own."""
    if settings.access_folder is None:
        return None
    return AccessFile(settings.access_folder / f"{client_id}.access", source=_source(settings))


def _shared_access(
    settings: ServiceSettings,
    valkey: ValkeyCalls | None,
    state: AccessState,
    keys: PublicKeys,
    *,
    client_id: str,
) -> SharedAccess | None:
    """Return what this service's processes share; nothing where the secret that seals it is one that everybody knows."""
    secret = settings.service_client_secret
    if valkey is None or secret.get_secret_value().startswith(PLACEHOLDER):
        return None
    return SharedAccess(valkey, state, keys, client_id=client_id, source=_source(settings), secret=secret)


def _source(settings: ServiceSettings) -> str:
    return f"{settings.token_issuer} at {settings.user_service_url}"
