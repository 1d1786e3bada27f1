"""Keeps a service's `AccessState` up to date: asks user_service what changed, and tells it which keys were used."""

import asyncio
import time
from contextlib import suppress
from functools import partial

import httpx
import structlog
from prometheus_client import Gauge
from pydantic import ValidationError

from common.auth.access import AccessState
from common.auth.service_tokens import ServiceTokens
from common.clock import epoch_ms
from common.contracts.access import ANNOUNCEMENTS, AccessFeed, KeyUse, KeyUses
from common.errors import UnavailableError
from common.http import answers_up_to
from common.metrics import follow
from common.valkey.messages import Messages

RETRY_S = 1.0
ANEW_S = 600.0
ANNOUNCED_S = 0.2
LOOK_AGAIN_S = 1.0
LOOK_WAIT_S = 0.5
MAX_PAGE_BYTES = 4 * 1024 * 1024
MAX_PAGES = 10_000
USES_PER_CALL = 500  # about 40 KB
ACCESS_AGE = Gauge(
    "assay_access_feed_age_seconds",
    "Time since it was last known who may still get in.",
    multiprocess_mode="livemax",
)
ACCESS_KNOWN = Gauge(
    "assay_access_known", "What is known about who may get in.", ["what"], multiprocess_mode="livemax"
)
_FAILURES = (httpx.HTTPError, ValidationError, ValueError, UnavailableError)
_log = structlog.get_logger()


class AccessFeedClient:
    """Polls the feed into one state; every ten minutes all of it anew, should a row have been changed past the feed."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tokens: ServiceTokens,
        state: AccessState,
        *,
        poll_s: float,
        anew_s: float = ANEW_S,
    ) -> None:
        self.state = state
        self._anew_s = anew_s
        self._began = time.monotonic()
        self._client = client
        self._tokens = tokens
        self._poll_s = poll_s
        self._polling = asyncio.Lock()
        self._announced = asyncio.Event()
        self._looking: asyncio.Task[bool] | None = None
        self._looked = float("-inf")
        follow(ACCESS_AGE, lambda: state.age_s)
        for what in state.sizes():
            follow(ACCESS_KNOWN.labels(what), partial(_size, state, what))

    async def keep_fresh(self) -> None:
        """Poll as often as was set, at once when a change is announced, every second while that fails.

        It runs until cancelled.
        """
        await self._tokens.wait()
        try:
            while True:
                self._announced.clear()
                worked = await self.poll()
                await asyncio.sleep(ANNOUNCED_S)  # however many changes are announced, and by whomever
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s if worked else RETRY_S):
                        await self._announced.wait()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    def announced(self) -> None:
        """Poll soon: something may have changed."""
        self._announced.set()

    async def hear(self, messages: Messages) -> None:
        """Poll whenever user_service says that something changed; runs until cancelled. A message says nothing else."""
        subscription = messages.subscribe(ANNOUNCEMENTS)
        try:
            async for _ in subscription:
                self.announced()
        finally:
            messages.unsubscribe(subscription)

    async def keep_telling(self) -> None:
        """Tell which keys were used, as often; runs until cancelled. However slow that is, no poll waits for it."""
        await self._tokens.wait()
        while True:
            await self.tell_uses()
            await asyncio.sleep(self._poll_s)

    async def look_again(self) -> None:
        """Poll at once for a key that is not known, once a second at most, whoever asks; nobody waits for long."""
        if self._looking is None or self._looking.done():
            if time.monotonic() - self._looked < LOOK_AGAIN_S:
                return
            self._looked = time.monotonic()
            self._looking = asyncio.create_task(self.poll())
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_WAIT_S):
                await asyncio.shield(self._looking)

    async def poll(self) -> bool:
        """Ask for everything that changed, one after the other; return whether that worked."""
        async with self._polling:
            return await self._poll()

    async def _poll(self) -> bool:
        if time.monotonic() - self._began >= self._anew_s:
            self._began = time.monotonic()
            self.state.start_over()
        try:
            for _ in range(MAX_PAGES):
                if not await self._read_page():
                    return True
            _log.warning("access.without_end")
        except _FAILURES as error:
            _log.warning("access.not_read", error=type(error).__name__)
            if _is_unauthenticated(error):
                self._tokens.was_refused()
        return False

    async def tell_uses(self) -> bool:
        """Tell user_service which keys were used since the last time; return whether that worked."""
        uses = self.state.take_uses()
        told = [KeyUse(key_id=key_id, used_at_ms=used_at_ms) for key_id, used_at_ms in uses.items()]
        for start in range(0, len(told), USES_PER_CALL):
            body = KeyUses(uses=tuple(told[start : start + USES_PER_CALL]))
            try:
                response = await self._client.post(
                    "/v1/internal/key-uses", json=body.model_dump(), headers=self._tokens.header()
                )
                response.raise_for_status()
            except _FAILURES as error:
                _log.warning("access.uses_not_told", error=type(error).__name__)
                self.state.put_back(uses)
                return False
        return True

    async def _read_page(self) -> bool:
        """Read one page; return whether another is to be read at once."""
        asked = time.monotonic()
        response = await self._client.get(
            "/v1/internal/access-feed",
            params={"after": self.state.version, "mark": self.state.mark},
            headers=self._tokens.header(),
            extensions=answers_up_to(MAX_PAGE_BYTES),
        )
        response.raise_for_status()
        feed = AccessFeed.model_validate_json(response.content)
        return self.state.apply(feed, as_of=asked, now=epoch_ms() // 1000)


def _is_unauthenticated(error: Exception) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 401


def _size(state: AccessState, what: str) -> int:
    return state.sizes()[what]
