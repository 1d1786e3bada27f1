"""What a service knows of who may get in, kept in Valkey for its own processes that start while user_service is away.

Whoever can write there must not gain anything by it, so it is sealed (AES-256-GCM) under a key that is made from the
service's own secret: nobody else can write one, or read which keys and institutions there are. An old one can be put
back, and is as old as it is: its times are within the seal, and one that was not confirmed for a day is not taken.
"""

import asyncio
import secrets
import time
import zlib
from typing import Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr, ValidationError

from common.auth.access import AccessState
from common.auth.access_file import (
    AccessFileRefusedError,
    Confirmation,
    Head,
    KeptAccess,
    Moment,
    Times,
    as_lines,
    from_lines,
)
from common.auth.keys import PublicKeys
from common.valkey.calls import ValkeyAwayError, ValkeyCalls, ValkeyRefusedError

KEPT_S: Final = 24 * 3600  # as long as public keys are trusted
SKEW_MS: Final = 5000  # clocks of two machines; what is shared counts as so much older
MAX_BYTES: Final = 8 * 1024 * 1024
SAVE_S: Final = 2.0
NONCE_BYTES: Final = 12
TRIES: Final = 5
AGAIN_S: Final = 0.2
_OUTAGES = (ValkeyAwayError, ValkeyRefusedError)
_log = structlog.get_logger()


class SharedAccess:
    """Reads what another process of this service left in Valkey, and leaves there what this one knows."""

    def __init__(
        self,
        calls: ValkeyCalls,
        state: AccessState,
        keys: PublicKeys,
        *,
        client_id: str,
        source: str,
        secret: SecretStr,
    ) -> None:
        self._calls = calls
        self._state = state
        self._keys = keys
        self._source = source
        self._key = f"assay:access:{client_id}"
        self._seal = _Seal(secret, about=f"{client_id}/{source}")
        self._told = float("-inf"), float("-inf")

    async def read(self) -> KeptAccess | None:
        """Return what is kept; None where there is nothing, raises `AccessFileRefusedError`."""
        for _ in range(TRIES):
            try:
                sealed, times = await self._calls.call("HMGET", self._key, "state", "times")
            except _OUTAGES:
                await asyncio.sleep(AGAIN_S)  # the first connection may take longer than a call
            else:
                return None if sealed is None else await asyncio.to_thread(self._opened, sealed, times)
        return None

    async def keep(self) -> None:
        """Leave what is known every two seconds, where it changed or was confirmed; runs until cancelled."""
        while True:
            await asyncio.sleep(SAVE_S)
            confirmed = self._state.as_of, self._keys.fetched
            if confirmed != self._told and float("-inf") not in confirmed and await self.save():
                self._told = confirmed

    async def save(self) -> bool:
        """Leave what is known, or that it was confirmed; return whether it is there."""
        version, times = self._version(), _times(self._state, self._keys)
        try:
            if await self._calls.call("HGET", self._key, "of") != version.encode():
                return await self._write(version, times)
            confirmation = Confirmation(of=version, times=times).model_dump_json().encode()
            await asyncio.gather(
                self._calls.call("HSET", self._key, "times", self._seal.close(confirmation)),
                self._calls.call("EXPIRE", self._key, KEPT_S),
            )
        except _OUTAGES as error:
            _log.warning("access.not_shared", error=type(error).__name__)
            return False
        return True

    async def _write(self, version: str, times: Times) -> bool:
        head = Head(source=self._source, times=times, keys=tuple(map(dict, self._keys.as_key_set())))
        feed = self._state.as_feed()
        sealed = await asyncio.to_thread(lambda: self._seal.close(zlib.compress(as_lines(head, feed()), 1)))
        if len(sealed) > MAX_BYTES:
            _log.warning("access.too_large_to_share", bytes=len(sealed))
            return True
        confirmation = self._seal.close(Confirmation(of=version, times=times).model_dump_json().encode())
        await asyncio.gather(
            self._calls.call("HSET", self._key, "state", sealed, "times", confirmation, "of", version),
            self._calls.call("EXPIRE", self._key, KEPT_S),
        )
        return True

    def _opened(self, sealed: bytes, times: bytes | None) -> KeptAccess:
        head, feed = from_lines(_unpacked(self._seal.open(sealed)))
        found = head.times
        if times is not None:
            confirmation = _confirmation(self._seal.open(times))
            if confirmation.of == _version(feed.version, feed.mark, [key["kid"] for key in head.keys]):
                found = confirmation.times
        kept = Times(access=_elsewhere(found.access), keys=_elsewhere(found.keys))
        now = Moment.ago(0)
        if not 0 <= kept.access.age_s(now) <= KEPT_S:
            raise AccessFileRefusedError("it is too old, or from the future")
        return KeptAccess(head.model_copy(update={"times": kept}), feed, digest="")

    def _version(self) -> str:
        kids = [key["kid"] for key in self._keys.as_key_set()]
        return _version(*self._state.known, kids)


class _Seal:
    """Encrypts and authenticates under a key made from a service's secret."""

    def __init__(self, secret: SecretStr, *, about: str) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"assay access 1")
        self._cipher = AESGCM(derived.derive(secret.get_secret_value().encode()))
        self._about = about.encode()

    def close(self, text: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, self._about)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed; raises `AccessFileRefusedError`."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._about)
        except (InvalidTag, ValueError) as error:
            raise AccessFileRefusedError("its seal is not ours") from error


def _version(version: int, mark: str, kids: list[str]) -> str:
    """Return what tells two states of knowledge apart."""
    return "/".join([str(version), mark, *sorted(kids)])


def _times(state: AccessState, keys: PublicKeys) -> Times:
    return Times(access=Moment.ago(state.age_s), keys=Moment.ago(keys.age_s))


def _elsewhere(moment: Moment) -> Moment:
    """Return a moment as another machine's: only the clock on the wall counts, and it may go wrong by a little."""
    return Moment(wall_ms=moment.wall_ms - SKEW_MS, machine_s=time.monotonic())


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise AccessFileRefusedError("it has another form") from error


def _confirmation(text: bytes) -> Confirmation:
    try:
        return Confirmation.model_validate_json(text)
    except ValidationError as error:
        raise AccessFileRefusedError("it has another form") from error
