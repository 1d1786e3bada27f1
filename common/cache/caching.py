"""One cache for all that is looked up: in the process, then in Valkey, then where it comes from, once for all who ask."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar

import structlog

from common.background import end, running
from common.cache.memory import Memory
from common.cache.metrics import HITS, INVALIDATED, ITEMS, MISSES
from common.cache.namespaces import FORGOTTEN, Forgotten, Namespace
from common.metrics import follow
from common.valkey.calls import ValkeyAwayError, ValkeyCalls, ValkeyRefusedError
from common.valkey.messages import MISSED

CHANNEL: Final = "assay:cache"
LOAD_S: Final = 5.0
FORGOTTEN_MS: Final = 10_000  # longer than any look-up that began before takes
ValueT = TypeVar("ValueT")
_OUTAGES = (ValkeyAwayError, ValkeyRefusedError)
_log = structlog.get_logger()


class Cache(Generic[ValueT]):
    """The values of one namespace.

    A value of an institution names it, so that all keys of one are together in a cluster, and nothing of one is ever
    found under another. Without Valkey, or while it is away, there is the process's own tier alone.
    """

    def __init__(
        self,
        namespace: Namespace[ValueT],
        valkey: ValkeyCalls | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.namespace = namespace
        self._valkey = valkey
        self._memory: Memory[str, ValueT | None] = Memory(max_items=namespace.max_items, clock=clock)
        self._flights: dict[str, asyncio.Task[ValueT | None]] = {}
        self._running: set[asyncio.Task[ValueT | None]] = (
            set()
        )  # also those whose value is out of date already
        self._here, self._there = (HITS.labels(namespace.name, tier) for tier in ("process", "valkey"))
        self._misses = MISSES.labels(namespace.name)
        self._invalidated = INVALIDATED.labels(namespace.name)
        follow(ITEMS.labels(namespace.name), lambda: len(self._memory))

    async def get(
        self, key: str, load: Callable[[], Awaitable[ValueT | None]], *, institution_id: str = ""
    ) -> ValueT | None:
        """Return the value of `key`, from `load` where no tier has it; None where there is none.

        However many ask at once, `load` is called once; it has five seconds, and what it raises is not remembered. One
        who asks and goes away takes nothing from the others.
        """
        place = self._place(key, institution_id)
        found = self._memory.get(place)
        if found is not None:
            self._here.inc()
            return found[0]
        flight = self._flights.get(place)
        if flight is None:
            flight = self._flights[place] = asyncio.create_task(self._fetch(place, load))
            self._running.add(flight)
            flight.add_done_callback(lambda done: self._landed(place, done))
        return await asyncio.shield(flight)

    def peek(self, key: str, *, institution_id: str = "") -> tuple[ValueT | None] | None:
        """Return what the process has, in a tuple because it may be None; it never waits and costs no task."""
        found = self._memory.get(self._place(key, institution_id))
        if found is not None:
            self._here.inc()
        return found

    async def put(self, key: str, value: ValueT, *, institution_id: str = "") -> bool:
        """Keep a value that came from elsewhere; return whether Valkey has it too."""
        place = self._place(key, institution_id)
        self._memory.put(place, value, for_s=self.namespace.kept_here_s)
        return await self._store(place, value, only_new=False)

    async def invalidate(self, key: str, *, institution_id: str = "") -> bool:
        """Forget a value here and, within a second, in every process; return whether they were told.

        Look-ups that began before it are not kept. Processes that were not told keep what they have for its time.
        """
        place = self._place(key, institution_id)
        self.forget(place)
        if self._valkey is None:
            return True
        try:
            await self._valkey.call("SET", place, FORGOTTEN, "PX", FORGOTTEN_MS)
        except _OUTAGES as error:
            self._failed(error)
        told = Forgotten(namespace=self.namespace.name, place=place)
        return await self._valkey.messages.publish(CHANNEL, told.model_dump_json().encode())

    def forget(self, place: str) -> None:
        """Forget a value in this process; a look-up that is on its way is not kept."""
        self._invalidated.inc()
        self._memory.forget(place)
        self._flights.pop(place, None)

    def clear(self) -> None:
        """Forget everything in this process."""
        self._memory.clear()
        self._flights.clear()

    async def aclose(self) -> None:
        """End what is on its way."""
        await end(self._running)

    async def _fetch(self, place: str, load: Callable[[], Awaitable[ValueT | None]]) -> ValueT | None:
        mine = asyncio.current_task()
        found = await self._look(place)
        if found is not None:
            self._there.inc()
            value, kept_s = found
        else:
            self._misses.inc()
            async with asyncio.timeout(LOAD_S):
                value = await load()
            kept_s = self.namespace.kept_s(value)
        if self._flights.get(place) is mine:  # nobody said meanwhile that it is out of date
            self._memory.put(place, value, for_s=min(kept_s, self.namespace.kept_here_s))
            if found is None:
                await self._store(place, value, only_new=True)
        return value

    async def _look(self, place: str) -> tuple[ValueT | None, float] | None:
        """Return what Valkey has and for how many seconds, None where it has nothing that can be read."""
        if self._valkey is None or self._valkey.is_away:
            return None
        try:
            kept, left_ms = await asyncio.gather(
                self._valkey.call("GET", place), self._valkey.call("PTTL", place)
            )
        except _OUTAGES as error:
            self._failed(error)
            return None
        if kept is None or kept == FORGOTTEN:
            return None
        try:
            return self.namespace.decode(kept), left_ms / 1000
        except ValueError as error:
            _log.warning("cache.not_read", namespace=self.namespace.name, error=type(error).__name__)
            return None

    async def _store(self, place: str, value: ValueT | None, *, only_new: bool) -> bool:
        """Let Valkey keep a value; one that was found missing takes no place where there is something meanwhile."""
        text = self.namespace.encode(value)
        if self._valkey is None or self._valkey.is_away or len(text) > self.namespace.max_bytes:
            return False
        kept_ms = round(self.namespace.kept_s(value) * 1000)
        try:
            await self._valkey.call("SET", place, text, "PX", kept_ms, *(("NX",) if only_new else ()))
        except _OUTAGES as error:
            self._failed(error)
            return False
        return True

    def _landed(self, place: str, flight: asyncio.Task[ValueT | None]) -> None:
        self._running.discard(flight)
        if self._flights.get(place) is flight:
            del self._flights[place]
        if not flight.cancelled():
            flight.exception()  # whoever still waits gets it; if nobody does, there is nobody to tell

    def _place(self, key: str, institution_id: str) -> str:
        """Return the key in Valkey: of bounded length, and without what the value is about in plain text."""
        owner = f"assay:{{{institution_id}}}" if institution_id else "assay"
        return f"{owner}:cache:{self.namespace.name}:{blake2b(key.encode(), digest_size=20).hexdigest()}"

    def _failed(self, error: Exception) -> None:
        _log.warning("cache.without_valkey", namespace=self.namespace.name, error=type(error).__name__)


class Caches:
    """The caches of one process, by namespace."""

    def __init__(self, valkey: ValkeyCalls | None) -> None:
        self._valkey = valkey
        self._caches: dict[str, Cache[Any]] = {}

    def of(self, namespace: Namespace[ValueT]) -> Cache[ValueT]:
        """Return the cache of `namespace`, the same one every time."""
        if namespace.name not in self._caches:
            self._caches[namespace.name] = Cache(namespace, self._valkey)
        cache: Cache[ValueT] = self._caches[namespace.name]
        return cache

    async def aclose(self) -> None:
        """End what is on its way."""
        for cache in self._caches.values():
            await cache.aclose()

    async def hear(self) -> None:
        """Forget what other processes say is out of date, and everything where that may have been missed."""
        if self._valkey is None:
            return
        subscription = self._valkey.messages.subscribe(CHANNEL)
        try:
            async for message in subscription:
                self._heard(message if isinstance(message, bytes) else b"", missed=message is MISSED)
        finally:
            self._valkey.messages.unsubscribe(subscription)

    def _heard(self, body: bytes, *, missed: bool) -> None:
        if missed:
            for cache in self._caches.values():
                cache.clear()
        elif (forgotten := Forgotten.read(body)) is not None and forgotten.namespace in self._caches:
            self._caches[forgotten.namespace].forget(forgotten.place)


@asynccontextmanager
async def open_caches(valkey: ValkeyCalls | None) -> AsyncIterator[Caches]:
    """Yield the caches of this process; with Valkey they hear of each other."""
    caches = Caches(valkey)
    loops = [] if valkey is None else [caches.hear]
    async with running(*loops):
        try:
            yield caches
        finally:
            await caches.aclose()
