"""Keeps what a service knows of who may get in over a restart, also one while user_service is away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from math import inf

import structlog

from common.auth.access import AccessState
from common.auth.access_file import (
    AccessFile,
    AccessFileRefusedError,
    Confirmation,
    Head,
    KeptAccess,
    Moment,
    Times,
)
from common.auth.access_sharing import SharedAccess
from common.auth.keys import PublicKeys
from common.clock import epoch_ms

SAVE_S = 2.0
RETRY_S = 30.0
_log = structlog.get_logger()


class AccessKeeper:
    """Reads the file once, and writes it soon after what is known has changed or was confirmed.

    Without a file nothing is kept here; what other processes of the service shared is read too, and the later one holds.
    """

    def __init__(
        self,
        file: AccessFile | None,
        state: AccessState,
        keys: PublicKeys,
        *,
        shared: SharedAccess | None = None,
    ) -> None:
        self._shared = shared
        self._file = file
        self._state = state
        self._keys = keys
        self._digest = ""
        self._saved = self._known(), self._confirmed()

    async def load(self) -> None:
        """Know what was known before, as old as it is; what is not usable is left aside."""
        for read, name in self._sources():
            try:
                kept = await read()
                if kept is not None and self._is_news(kept):
                    self._restore(kept, name)
            except (AccessFileRefusedError, ValueError) as error:
                _log.warning("access.file_ignored", file=name, reason=str(error))

    async def keep(self) -> None:
        """Save what changed, every two seconds at most; runs until cancelled."""
        while True:
            saved = await self.save()
            await asyncio.sleep(SAVE_S if saved else RETRY_S)

    async def save(self) -> bool:
        """Write what is not in the file yet; return whether all is there that should be."""
        if self._file is None or inf in (self._state.age_s, self._keys.age_s):
            return True  # nothing to keep, or nothing is known
        known, confirmed = self._known(), self._confirmed()
        try:
            is_new = known != self._saved[0]
            if is_new or (confirmed != self._saved[1] and not await self._confirm(self._file)):
                await self._write(self._file)
        except OSError as error:
            _log.warning("access.not_kept", file=str(self._file.path), error=type(error).__name__)
            return False
        self._saved = known, confirmed
        return True

    async def _write(self, file: AccessFile) -> None:
        head = Head(source=file.source, times=self._times(), keys=tuple(map(dict, self._keys.as_key_set())))
        feed = self._state.as_feed()
        self._digest = await asyncio.to_thread(lambda: file.write(head, feed()))

    async def _confirm(self, file: AccessFile) -> bool:
        confirmation = Confirmation(of=self._digest, times=self._times())
        return await asyncio.to_thread(file.confirm, confirmation)

    def _sources(self) -> Iterator[tuple[Callable[[], Awaitable[KeptAccess | None]], str]]:
        if self._file is not None:
            yield partial(asyncio.to_thread, self._file.read), str(self._file.path)
        if self._shared is not None:
            yield self._shared.read, "valkey"

    def _is_news(self, kept: KeptAccess) -> bool:
        return not self._state.loaded or kept.head.times.access.age_s(Moment.ago(0)) < self._state.age_s

    def _restore(self, kept: KeptAccess, name: str) -> None:
        now, times = Moment.ago(0), kept.head.times
        age_s = times.access.age_s(now)
        self._keys.restore(kept.head.keys, age_s=times.keys.age_s(now))
        self._state.restore(kept.feed, age_s=age_s, now=epoch_ms() // 1000)
        if kept.digest:
            self._digest, self._saved = kept.digest, (self._known(), self._confirmed())
        _log.info("access.restored", source=name, version=self._state.version, age_s=round(age_s, 1))

    def _times(self) -> Times:
        return Times(access=Moment.ago(self._state.age_s), keys=Moment.ago(self._keys.age_s))

    def _known(self) -> tuple[int, int]:
        return self._state.changes, self._keys.changes

    def _confirmed(self) -> tuple[float, float]:
        return self._state.as_of, self._keys.fetched
