"""user_service's public keys: fetched, kept, refreshed; and tokens that were verified with them, remembered."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import httpx
import structlog
from jose import jwk
from jose.exceptions import JOSEError
from prometheus_client import Gauge

from common.auth.access import AccessState
from common.auth.gate import Expected, key_id, open_token
from common.auth.principal import Principal, UnauthenticatedError
from common.cache.metrics import HITS, MISSES
from common.clock import epoch_ms
from common.contracts.tokens import ALGORITHM, API_KEY_TEXT, TokenUse
from common.errors import UnavailableError

REFRESH_S = 20.0
UNKNOWN_KEY_FETCH_S = 60.0
UNKNOWN_KEY_WAIT_S = 0.2
MAX_AGE_S = 24 * 3600.0
MAX_REMEMBERED = 10_000
MAX_KEYS = 16
_KEY_FIELDS = ("kty", "n", "e", "alg")
KEYS_AGE = Gauge(
    "assay_token_keys_age_seconds",
    "Time since the keys that verify tokens were last fetched.",
    multiprocess_mode="livemax",
)
_REMEMBERED, _OPENED = HITS.labels("tokens", "process"), MISSES.labels("tokens")
_log = structlog.get_logger()


class KeySource(Protocol):
    """Where a verifier looks keys up: fetched from user_service, or user_service's own."""

    async def find(self, kid: str) -> Mapping[str, str]:
        """Return the public key named `kid`; raises `UnauthenticatedError`."""
        ...

    def has(self, kid: str) -> bool:
        """Say whether the key named `kid` is known and not retired."""
        ...


class PublicKeys:
    """The current key set; a failed or empty fetch leaves the old set in place, for a day at most.

    `changes` counts how often it became another one; it was fetched at `fetched`, by the clock that is given.
    """

    def __init__(self, client: httpx.AsyncClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.changes = 0
        self._client = client
        self._clock = clock
        self._keys: dict[str, Mapping[str, str]] = {}
        self.fetched = self._last_unknown = float("-inf")
        self._fetching: asyncio.Task[bool] | None = None

    @property
    def loaded(self) -> bool:
        """Whether any key is known that is not too old to be trusted."""
        return bool(self._keys) and self._clock() - self.fetched <= MAX_AGE_S

    @property
    def age_s(self) -> float:
        """Return how long ago the key set was this one; infinite before the first."""
        return self._clock() - self.fetched

    def as_key_set(self) -> tuple[Mapping[str, str], ...]:
        """Return what is known as the keys of a JWK set."""
        return tuple({"kid": kid, **key} for kid, key in self._keys.items())

    def restore(self, keys: Sequence[Mapping[str, str]], *, age_s: float) -> None:
        """Know what `as_key_set` returned once, and was fetched `age_s` ago; raises `ValueError`."""
        self._keys, self.fetched = _key_set({"keys": list(keys)}), self._clock() - age_s

    async def find(self, kid: str) -> Mapping[str, str]:
        """Return the key named `kid`; raises `UnauthenticatedError`, `UnavailableError` while no key is known.

        An unknown id costs at most one fetch a minute, whoever asks, and its caller never waits for long.
        """
        if kid not in self._keys:
            await self._look_again()
        if not self.loaded:
            raise UnavailableError("The keys that verify tokens are not known yet.")
        if kid not in self._keys:
            raise UnauthenticatedError
        return self._keys[kid]

    def has(self, kid: str) -> bool:
        """Say whether the key named `kid` was in the last key set."""
        return kid in self._keys

    async def refresh(self) -> bool:
        """Fetch the key set, once for all who ask meanwhile; return whether it is now known."""
        return await asyncio.shield(self._fetch_once())

    async def _look_again(self) -> None:
        if self._clock() - self._last_unknown >= UNKNOWN_KEY_FETCH_S:
            self._last_unknown = self._clock()
            self._fetch_once()
        if self._fetching is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(UNKNOWN_KEY_WAIT_S):
                    await asyncio.shield(self._fetching)

    def _fetch_once(self) -> asyncio.Task[bool]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> bool:
        try:
            response = await self._client.get("/.well-known/jwks.json")
            response.raise_for_status()
            found = _key_set(response.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("keys.not_fetched", error=type(error).__name__)
            found = {}
        finally:
            self._fetching = None
        if found:
            self.changes += found != self._keys
            self._keys, self.fetched = found, self._clock()
        if self._keys:
            KEYS_AGE.set(self._clock() - self.fetched)
        return bool(found)

    async def keep_fresh(self) -> None:
        """Fetch the key set every twenty seconds, every second while none is known; runs until cancelled."""
        try:
            while True:
                await self.refresh()
                await asyncio.sleep(REFRESH_S if self.loaded else 1.0)
        finally:
            if self._fetching is not None:
                self._fetching.cancel()


class TokenVerifier:
    """Turns a credential into a principal, remembering tokens it has verified until they or their keys end.

    Whoever it returns still has their rights, as far as `access` knows; `catch_up` brings that up to date, where it is
    not kept so anyway. `look_again` may do so for a key that is not known, before it is refused.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        expected: Expected,
        access: AccessState | None = None,
        catch_up: Callable[[], Awaitable[None]] | None = None,
        look_again: Callable[[], Awaitable[None]] | None = None,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        self.access = access or AccessState(goes_stale=False)
        self._keys = keys
        self._catch_up = catch_up
        self._look_again = look_again
        self._max_remembered = max_remembered
        self._expected = expected
        self._remembered: OrderedDict[str, tuple[str, Principal]] = OrderedDict()

    def remembered(self, token: str) -> Principal | None:
        """Return who holds `token` if it was verified before, has not expired, and nothing ended its rights."""
        known = self._unexpired(token)
        if known is None or not self.access.loaded or not self.access.admits(known):
            return None
        return known

    def holder_of(self, api_key: bytes) -> Principal | None:
        """Return who holds an API key, None where it is not a good one or no key is known yet."""
        return self.access.holder_of(api_key) if self.access.loaded else None

    async def verify(self, token: str) -> Principal:
        """Return who holds `token`; raises `UnauthenticatedError`, `UnavailableError` while too little is known."""
        principal = self._unexpired(token) or await self._opened(token)
        if principal.use is not TokenUse.SERVICE:
            await self._be_up_to_date()
            if self._look_again is not None and self.access.may_be_new(principal):
                await self._look_again()
            if not self.access.admits(principal):
                raise UnauthenticatedError
        return principal

    async def verify_key(self, api_key: bytes) -> Principal:
        """Return who holds an API key; raises `UnauthenticatedError`, `UnavailableError` while none is known."""
        await self._be_up_to_date()
        holder = self.access.holder_of(api_key)
        if holder is None and self._look_again is not None and API_KEY_TEXT.match(api_key):
            await self._look_again()
            holder = self.access.holder_of(api_key)
        if holder is None:
            raise UnauthenticatedError
        return holder

    async def _be_up_to_date(self) -> None:
        if self._catch_up is not None:
            await self._catch_up()
        if not self.access.loaded:
            raise UnavailableError("It is not known yet who may get in.")

    def _unexpired(self, token: str) -> Principal | None:
        known = self._remembered.get(token)
        if known is None:
            return None
        kid, principal = known
        if principal.expires_at > epoch_ms() // 1000 and self._keys.has(kid):
            _REMEMBERED.inc()
            return principal
        del self._remembered[token]
        return None

    async def _opened(self, token: str) -> Principal:
        _OPENED.inc()
        now = epoch_ms() // 1000
        kid = key_id(token)
        key = await self._keys.find(kid)
        principal = open_token(token, key, expected=self._expected, now=now)
        self._remembered[token] = (kid, principal)
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)
        return principal


def _key_set(document: Mapping[str, object]) -> dict[str, Mapping[str, str]]:
    """Return the usable keys of a JWK set by id; keys of another kind are left out."""
    keys = document["keys"]
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError("a key set is a list of a few keys")
    return {key["kid"]: {name: key[name] for name in _KEY_FIELDS} for key in keys if _is_usable(key)}


def _is_usable(key: object) -> bool:
    if not isinstance(key, dict) or not all(isinstance(key.get(name), str) for name in ("kid", *_KEY_FIELDS)):
        return False
    try:
        jwk.construct(key, algorithm=ALGORITHM)
    except (JOSEError, ValueError):
        return False
    return bool(key["kty"] == "RSA" and key["alg"] == ALGORITHM)
