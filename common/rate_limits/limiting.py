"""Counts requests by client address, by caller and by institution, and refuses what is too many."""

import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, Protocol

from fastapi import Request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter

from common.auth.principal import Principal, UnauthenticatedError
from common.client_address import client_address, client_network
from common.contracts.access import Allowance
from common.contracts.tokens import TokenUse
from common.errors import PlatformError
from common.headers import RATE_LIMITS
from common.rate_limits.storage import BoundedStorage, open_storage
from common.rate_limits.windows import Policy, Window

MAX_ADDRESSES: Final = 50_000
MAX_CALLERS: Final = 50_000
SECOND: Final = 1
MINUTE: Final = 60
REFUSED = Counter("assay_rate_limited_total", "Requests refused because too many came.", ["policy"])


class RateLimitedError(PlatformError):
    """More requests came than this client, caller or institution may send."""

    status_code = 429
    type = "rate-limited"
    title = "Too many requests; try again later"


class Allowances(Protocol):
    """Where it is known what institutions may ask for."""

    def allowance(self, institution_id: str) -> Allowance | None:
        """Return what an institution may ask for; None where it is not known, which bounds nothing."""
        ...


class NoAllowances:
    """Knows of no institution what it may ask for."""

    def allowance(self, institution_id: str) -> Allowance | None:
        """Return that it is not known."""


class RateLimits:
    """The limits of one service, counted in this process.

    An unauthenticated request counts against the client's address. So does one whose credentials are refused, against
    a bound of its own; good credentials spend nothing of it and always get in, also when others behind the same
    address have spent it. An authenticated request counts against its caller and its institution.
    """

    def __init__(
        self,
        *,
        unauthenticated_per_minute: int,
        failures_per_minute: int,
        allowances: Allowances,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowances = allowances
        self._addresses = open_storage(max_keys=MAX_ADDRESSES, clock=clock)
        self._callers = open_storage(max_keys=MAX_CALLERS, clock=clock)
        self._limiter = SlidingWindowCounterRateLimiter(self._addresses)
        self._unauthenticated = RateLimitItemPerMinute(unauthenticated_per_minute, namespace="address")
        self._failures = RateLimitItemPerMinute(failures_per_minute, namespace="failures")
        self._secrets = RateLimitItemPerMinute(unauthenticated_per_minute, namespace="secrets")

    def count_unauthenticated(self, request: Request) -> None:
        """Count a request that needs no authentication; raises `RateLimitedError`."""
        key = _client(request)
        is_allowed = self._limiter.hit(self._unauthenticated, key)
        window = self._state(request, self._unauthenticated, key)
        if not is_allowed:
            raise _refusal(_policy(self._unauthenticated), window)

    @contextmanager
    def credentials(self, request: Request) -> Iterator[None]:
        """Verify credentials in this block: an `UnauthenticatedError` that leaves it is counted.

        One too many is a `RateLimitedError` instead.
        """
        try:
            yield
        except UnauthenticatedError:
            self._count_failure(request, self._failures, _client(request))
            raise

    @contextmanager
    def service_secret(self, request: Request, client_id: str) -> Iterator[None]:
        """Do the same for the secret of one of our services: each has a bound of its own at each address.

        Nothing that others send from the same address keeps it from its token.
        """
        try:
            yield
        except UnauthenticatedError:
            self._count_failure(request, self._secrets, f"{client_id}/{_client(request)}")
            raise

    def count_caller(self, scope: MutableMapping[str, Any], caller: Principal) -> None:
        """Count a request of `caller`, once however often this is called; raises `RateLimitedError`.

        Our own services, and institutions of which nothing is known yet, are not bounded. It is on the scoring path:
        it takes 4 microseconds.
        """
        if caller.institution is None or RATE_LIMITS in scope:
            return
        institution_id = caller.institution.institution_id
        allowance = self._allowances.allowance(institution_id)
        if allowance is None:
            return
        name = caller.session_id if caller.use is TokenUse.API_KEY else caller.subject
        by_caller, by_institution = allowance.key_requests_per_second, allowance.requests_per_second
        own_key, shared_key = "caller/" + name, "institution/" + institution_id
        left = self._callers.spend(own_key, by_caller, SECOND)
        left_to_all = self._callers.spend(shared_key, by_institution, SECOND) if left >= 0 else -1
        described, stated = _of_callers(by_caller, by_institution)
        scope[RATE_LIMITS] = ((b"ratelimit-policy", described), (b"ratelimit", stated % (left, left_to_all)))
        if left_to_all < 0:
            windows = [
                (Policy("caller", by_caller, SECOND), _window(self._callers, own_key)),
                (Policy("institution", by_institution, SECOND), _window(self._callers, shared_key)),
            ]
            found = tuple(window.left(policy) for policy, window in windows)
            scope[RATE_LIMITS] = ((b"ratelimit-policy", described), (b"ratelimit", stated % found))
            raise _refusal(*windows[left >= 0])

    def _count_failure(self, request: Request, item: RateLimitItem, key: str) -> None:
        if not self._limiter.hit(item, key):
            raise _refusal(_policy(item), self._state(request, item, key)) from None

    def _state(self, request: Request, item: RateLimitItem, key: str) -> Window:
        """Let the answer say what is left to a client address."""
        policy = _policy(item)
        window = _window(self._addresses, item.key_for(key), policy.seconds)
        left = window.left(policy)
        reset_s = int(window.ends_in_s) + 1 if left else window.wait_s(policy)
        request.scope[RATE_LIMITS] = (
            (b"ratelimit-policy", policy.described),
            (b"ratelimit", policy.stated(left=left, reset_s=reset_s)),
        )
        return window


async def count_unauthenticated(request: Request) -> None:
    """Count a request to a route that asks for no authentication; raises `RateLimitedError`."""
    limits: RateLimits = request.state.rate_limits
    limits.count_unauthenticated(request)


async def count_later(request: Request) -> None:
    """Mark a route that asks for no authentication and counts what it refuses by itself."""


def _client(request: Request) -> str:
    return client_network(client_address(request))


def _policy(item: RateLimitItem) -> Policy:
    return Policy(item.namespace, item.amount, item.get_expiry())


def _window(storage: BoundedStorage, key: str, seconds: int = SECOND) -> Window:
    previous, _, current, ends_in_s = storage.get_sliding_window(key, seconds)
    return Window(previous, current, ends_in_s - seconds)


def _refusal(policy: Policy, window: Window) -> RateLimitedError:
    REFUSED.labels(policy.name).inc()
    return RateLimitedError(retry_after_s=window.wait_s(policy))


@lru_cache(maxsize=64)  # as many as there are tiers
def _of_callers(by_caller: int, by_institution: int) -> tuple[bytes, bytes]:
    """Return the items of `RateLimit-Policy`, and those of `RateLimit` with two places for what is left."""
    policies = Policy("caller", by_caller, SECOND), Policy("institution", by_institution, SECOND)
    stated = b", ".join(b'"%b";r=%%d;t=1' % policy.name.encode() for policy in policies)
    return b", ".join(policy.described for policy in policies), stated
