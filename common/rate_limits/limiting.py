"""Counts requests by client address, by caller and by institution, and refuses what is too many."""

import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
from common.rate_limits.shared import SharedCounts
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
    """The limits of one service, counted in Valkey where processes share one (`shared`), otherwise in this process.

    An unauthenticated request counts against the client's address. So does one whose credentials are refused, against
    a bound of its own; good credentials spend nothing of it and always get in, also when others behind the same
    address have spent it. An authenticated request counts against its caller and its institution.

    While Valkey is away this process counts for itself: nobody is let in without being counted, nobody is refused for it.
    """

    def __init__(
        self,
        *,
        unauthenticated_per_minute: int,
        failures_per_minute: int,
        allowances: Allowances,
        shared: SharedCounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowances = allowances
        self._shared = shared
        self._addresses = open_storage(max_keys=MAX_ADDRESSES, clock=clock)
        self._callers = open_storage(max_keys=MAX_CALLERS, clock=clock)
        self._limiter = SlidingWindowCounterRateLimiter(self._addresses)
        self._unauthenticated = RateLimitItemPerMinute(unauthenticated_per_minute, namespace="address")
        self._failures = RateLimitItemPerMinute(failures_per_minute, namespace="failures")
        self._secrets = RateLimitItemPerMinute(unauthenticated_per_minute, namespace="secrets")

    async def count_unauthenticated(self, request: Request) -> None:
        """Count a request that needs no authentication; raises `RateLimitedError`."""
        await self._count_address(request, self._unauthenticated, _client(request))

    @asynccontextmanager
    async def credentials(self, request: Request) -> AsyncIterator[None]:
        """Verify credentials in this block: an `UnauthenticatedError` that leaves it is counted.

        One too many is a `RateLimitedError` instead.
        """
        try:
            yield
        except UnauthenticatedError:
            await self._count_failure(request, self._failures, _client(request))
            raise

    @asynccontextmanager
    async def service_secret(self, request: Request, client_id: str) -> AsyncIterator[None]:
        """Do the same for the secret of one of our services: each has a bound of its own at each address.

        Nothing that others send from the same address keeps it from its token.
        """
        try:
            yield
        except UnauthenticatedError:
            await self._count_failure(request, self._secrets, f"{client_id}/{_client(request)}")
            raise

    async def count_caller(self, scope: MutableMapping[str, Any], caller: Principal) -> None:
        """Count a request of `caller`, once however often this is called; raises `RateLimitedError`.

        Our own services, and institutions of which nothing is known yet, are not bounded. It is on the scoring path:
        in this process it takes 4 microseconds and waits for nothing, together with others one round trip.
        """
        if caller.institution is None or RATE_LIMITS in scope:
            return
        institution_id = caller.institution.institution_id
        allowance = self._allowances.allowance(institution_id)
        if allowance is None:
            return
        name = caller.session_id if caller.use is TokenUse.API_KEY else caller.subject
        rules = _of_callers(allowance.caller_requests_per_second, allowance.requests_per_second)
        counted = None if self._shared is None else await _together(self._shared, institution_id, name, rules)
        left, left_to_all, windows = counted or self._count_here(institution_id, name, rules)
        if windows is not None:
            refused_by = 0 if left < 0 else 1
            left, left_to_all = (
                window.left(policy) for policy, window in zip(rules.policies, windows, strict=True)
            )
        scope[RATE_LIMITS] = (
            (b"ratelimit-policy", rules.described),
            (b"ratelimit", rules.stated % (left, left_to_all)),
        )
        if windows is not None:
            raise _refusal(rules.policies[refused_by], windows[refused_by])

    def _count_here(self, institution_id: str, name: str, rules: "_CallerRules") -> "_Counted":
        """Count in this process."""
        own_key, shared_key = "caller/" + name, "institution/" + institution_id
        of_caller, of_institution = rules.policies
        left = self._callers.spend(own_key, of_caller.limit, SECOND)
        left_to_all = self._callers.spend(shared_key, of_institution.limit, SECOND) if left >= 0 else -1
        if left_to_all >= 0:
            return left, left_to_all, None
        return left, left_to_all, (_window(self._callers, own_key), _window(self._callers, shared_key))

    async def _count_failure(self, request: Request, item: RateLimitItem, key: str) -> None:
        try:
            await self._count_address(request, item, key)
        except RateLimitedError as refusal:
            raise refusal from None

    async def _count_address(self, request: Request, item: RateLimitItem, key: str) -> None:
        """Count one for a client address, and let the answer say what is left to it; raises `RateLimitedError`."""
        policy = _policy(item)
        counted = None
        if self._shared is not None:
            counted = await self._shared.spend([self._shared.address_key(policy.name, key)], [policy])
        if counted is None:
            is_allowed = self._limiter.hit(item, key)
            window = _window(self._addresses, item.key_for(key), policy.seconds)
        else:
            is_allowed, window = counted[0].left >= 0, counted[0].window
        left = window.left(policy)
        reset_s = int(window.ends_in_s) + 1 if left else window.wait_s(policy)
        request.scope[RATE_LIMITS] = (
            (b"ratelimit-policy", policy.described),
            (b"ratelimit", policy.stated(left=left, reset_s=reset_s)),
        )
        if not is_allowed:
            raise _refusal(policy, window)


async def count_unauthenticated(request: Request) -> None:
    """Count a request to a route that asks for no authentication; raises `RateLimitedError`."""
    limits: RateLimits = request.state.rate_limits
    await limits.count_unauthenticated(request)


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


_Counted = tuple[int, int, tuple[Window, Window] | None]
"""What is left to a caller and to its institution; the windows of both where one was spent."""


async def _together(
    shared: SharedCounts, institution_id: str, name: str, rules: "_CallerRules"
) -> _Counted | None:
    """Count with all processes; None where that is not possible now."""
    counted = await shared.spend(shared.caller_keys(institution_id, name), rules.policies)
    if counted is None:
        return None
    own, of_all = counted
    return own.left, of_all.left, None if of_all.left >= 0 else (own.window, of_all.window)


@dataclass(frozen=True, slots=True)
class _CallerRules:
    """What callers of one tier may send; `stated` has two places for what is left."""

    policies: tuple[Policy, Policy]
    described: bytes
    stated: bytes


@lru_cache(maxsize=64)  # as many as there are tiers
def _of_callers(by_caller: int, by_institution: int) -> _CallerRules:
    policies = Policy("caller", by_caller, SECOND), Policy("institution", by_institution, SECOND)
    stated = b", ".join(b'"%b";r=%%d;t=1' % policy.name.encode() for policy in policies)
    return _CallerRules(policies, b", ".join(policy.described for policy in policies), stated)
