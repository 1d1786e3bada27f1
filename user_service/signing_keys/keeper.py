"""Keeps the signing keys of this process fresh, and rotates them when their time has come."""

import asyncio
from dataclasses import dataclass

import structlog

from common.clock import epoch_ms
from user_service.events.recording import SYSTEM
from user_service.signing_keys.ring import KeyRing
from user_service.signing_keys.schedule import is_due
from user_service.signing_keys.store import KeyStore, RotationUnderWayError

REREAD_S = 10.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class KeyKeeper:
    """The ring of this process and the store it comes from; a key is replaced after `days`, 0: never."""

    ring: KeyRing
    store: KeyStore
    days: int

    async def keep(self) -> None:
        """Look every ten seconds whether a key is new or due; runs until cancelled."""
        while True:
            await asyncio.sleep(REREAD_S)
            await self.look(now_ms=epoch_ms())

    async def reread(self, *, now_ms: int) -> None:
        """Use the keys that another process made."""
        await self.store.reread(self.ring, now_ms=now_ms)

    async def look(self, *, now_ms: int) -> None:
        """Rotate if it is due, then read what is there. Of several processes one rotates."""
        await self.store.reread(self.ring, now_ms=now_ms)
        if is_due(self.ring.keys[0].times, days=self.days, now_ms=now_ms):
            try:
                async with self.store.database.sessions.begin() as session:
                    await self.store.rotate(session, actor=SYSTEM, now_ms=now_ms)
            except RotationUnderWayError:
                _log.info("signing_key.rotated_elsewhere")
            await self.store.reread(self.ring, now_ms=now_ms)
