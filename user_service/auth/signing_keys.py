"""The keys that sign tokens: made at the first start, kept encrypted in the database, unlocked once in memory."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy.exc import IntegrityError

from common.auth.principal import UnauthenticatedError
from common.auth.signing import SigningKey, generate_signing_key, public_jwk, unlock
from common.db import Database
from common.errors import StartupError
from user_service.auth import repository
from user_service.auth.tables import SigningKeyRow

FIRST_GENERATION = 1
_log = structlog.get_logger()


class KeyRing:
    """The active keys, newest first; also where this service looks up keys for its own verifier."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.newest = keys[0]
        self.published: tuple[Mapping[str, str], ...] = tuple(public_jwk(key) for key in keys)
        self._by_id = {key["kid"]: key for key in self.published}

    async def find(self, kid: str) -> Mapping[str, str]:
        """Return the public key named `kid`; raises `UnauthenticatedError`."""
        if kid not in self._by_id:
            raise UnauthenticatedError
        return self._by_id[kid]

    async def is_loaded(self) -> bool:
        """Readiness: whether tokens can be signed."""
        return bool(self._by_id)


async def open_key_ring(database: Database, *, passphrase: str, now_ms: int) -> KeyRing:
    """Unlock the active keys, after making the first one if there is none; raises `StartupError`."""
    rows = await _active_keys(database)
    if not rows:
        await _make_first_key(database, passphrase=passphrase, now_ms=now_ms)
        rows = await _active_keys(database)
    locked = [SigningKey(kid=row.kid, private_pem=row.encrypted_pem) for row in rows]
    try:
        return await asyncio.to_thread(_unlocked, locked, passphrase)
    except ValueError as error:
        raise StartupError(
            "the signing key in the database does not open with SIGNING_KEY_PASSPHRASE. "
            "Give the passphrase this database was first started with."
        ) from error


async def _active_keys(database: Database) -> Sequence[SigningKeyRow]:
    async with database.sessions() as session:
        return await repository.active_signing_keys(session)


async def _make_first_key(database: Database, *, passphrase: str, now_ms: int) -> None:
    """Store a first key. Of processes that start together one wins, and all use its key."""
    key = await asyncio.to_thread(generate_signing_key, passphrase=passphrase)
    try:
        async with database.sessions.begin() as session:
            session.add(
                SigningKeyRow(
                    kid=key.kid,
                    generation=FIRST_GENERATION,
                    encrypted_pem=key.private_pem,
                    created_at_ms=now_ms,
                    signs_from_ms=now_ms,
                )
            )
    except IntegrityError:
        _log.info("signing_key.made_elsewhere")
    else:
        _log.info("signing_key.made", kid=key.kid)


def _unlocked(locked: Sequence[SigningKey], passphrase: str) -> KeyRing:
    return KeyRing([unlock(key, passphrase=passphrase) for key in locked])
