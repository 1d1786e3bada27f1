"""The signing keys in the database: encrypted, made one generation after another, unlocked once in memory."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.signing import SigningKey, generate_signing_key, unlock
from common.db import Database
from common.errors import PlatformError, StartupError
from user_service.changes import Topic, announce
from user_service.events.recording import SYSTEM, Action, Actor, Event, record
from user_service.institutions.platform import PLATFORM
from user_service.signing_keys import repository
from user_service.signing_keys.ring import KeyRing, RingKey
from user_service.signing_keys.schedule import KeyTimes, plan_rotation
from user_service.signing_keys.tables import SigningKeyRow

FIRST_GENERATION = 1
_log = structlog.get_logger()


class RotationUnderWayError(PlatformError):
    """The rotation before this one is not over: its old key still verifies tokens."""

    status_code = 409
    type = "rotation-under-way"
    title = "The signing key is being rotated already"


def refuse_second_rotation(published: Sequence[SigningKeyRow]) -> None:
    """Raise `RotationUnderWayError` while a key that was replaced is still published."""
    if any(row.retired_at_ms is not None for row in published):
        raise RotationUnderWayError


@dataclass(frozen=True)
class KeyStore:
    """Reads and rotates the keys of one database."""

    database: Database
    passphrase: str = field(repr=False)

    async def open(self, *, now_ms: int) -> KeyRing:
        """Unlock the keys, after making the first one if there is none; raises `StartupError`."""
        rows = await self._published(now_ms)
        if not rows:
            await self._make_first(now_ms)
            rows = await self._published(now_ms)
        return KeyRing(await self._unlocked(rows, {}))

    async def reread(self, ring: KeyRing, *, now_ms: int) -> None:
        """Give `ring` the keys as they are now, also those that another process made."""
        rows = await self._published(now_ms)
        if rows:
            known = {ring_key.key.kid: ring_key for ring_key in ring.keys}
            ring.replace(await self._unlocked(rows, known))

    async def rotate(
        self, session: AsyncSession, *, actor: Actor, now_ms: int, at_once: bool = False
    ) -> SigningKeyRow:
        """Store the next key and say when the ones before it end, in the running transaction.

        Raises `RotationUnderWayError`, unless it is `at_once`: that is for a key that somebody may have stolen.
        """
        locked = await asyncio.to_thread(generate_signing_key, passphrase=self.passphrase)
        # read first: a rotation that is committed in between is then seen, or has taken the next generation
        last_generation = await repository.last_generation(session)
        published = await repository.published(session, now_ms=now_ms)
        if not at_once:
            refuse_second_rotation(published)
        plan = plan_rotation(now_ms=now_ms, at_once=at_once)
        row = SigningKeyRow(
            kid=locked.kid,
            generation=last_generation + 1,
            encrypted_pem=locked.private_pem,
            created_at_ms=now_ms,
            signs_from_ms=plan.signs_from_ms,
        )
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as error:
            raise RotationUnderWayError from error
        for old in published:
            old.retired_at_ms = plan.old_retired_at_ms
        await _record(session, row, published, actor=actor, at_once=at_once, now_ms=now_ms)
        await announce(session, Topic.SIGNING_KEYS)
        _log.info("signing_key.rotated", kid=row.kid, at_once=at_once)
        return row

    async def _published(self, now_ms: int) -> Sequence[SigningKeyRow]:
        async with self.database.sessions() as session:
            return await repository.published(session, now_ms=now_ms)

    async def _make_first(self, now_ms: int) -> None:
        """Store and record a first key. Of processes that start together one wins, and all use its key."""
        key = await asyncio.to_thread(generate_signing_key, passphrase=self.passphrase)
        try:
            async with self.database.sessions.begin() as session:
                session.add(
                    SigningKeyRow(
                        kid=key.kid,
                        generation=FIRST_GENERATION,
                        encrypted_pem=key.private_pem,
                        created_at_ms=now_ms,
                        signs_from_ms=now_ms,
                    )
                )
                await session.flush()
                created = Event(Action.SIGNING_KEY_CREATED, SYSTEM, "signing_key", key.kid)
                await record(session, PLATFORM, created, now_ms=now_ms)
        except IntegrityError:
            _log.info("signing_key.made_elsewhere")
        else:
            _log.info("signing_key.made", kid=key.kid)

    async def _unlocked(
        self, rows: Sequence[SigningKeyRow], known: Mapping[str, RingKey]
    ) -> Sequence[RingKey]:
        """Return the keys of `rows`; opening one takes a while, so those that are open already are not opened again."""

        def opened(row: SigningKeyRow) -> RingKey:
            times = KeyTimes(row.created_at_ms, row.signs_from_ms, row.retired_at_ms)
            if row.kid in known:
                return RingKey(known[row.kid].key, known[row.kid].public, times)
            return RingKey.of(
                unlock(SigningKey(row.kid, row.encrypted_pem), passphrase=self.passphrase), times
            )

        try:
            return await asyncio.to_thread(lambda: [opened(row) for row in rows])
        except ValueError as error:
            raise StartupError(
                "the signing key in the database does not open with SIGNING_KEY_PASSPHRASE. "
                "Give the passphrase this database was first started with."
            ) from error


async def _record(
    session: AsyncSession,
    row: SigningKeyRow,
    old: Sequence[SigningKeyRow],
    *,
    actor: Actor,
    at_once: bool,
    now_ms: int,
) -> None:
    event = Event(
        Action.SIGNING_KEY_ROTATED,
        actor,
        "signing_key",
        row.kid,
        {"signs_from_ms": row.signs_from_ms, "replaces": [each.kid for each in old], "at_once": at_once},
    )
    await record(session, PLATFORM, event, now_ms=now_ms)
    if at_once:
        for each in old:
            retired = Event(Action.SIGNING_KEY_RETIRED, actor, "signing_key", each.kid)
            await record(session, PLATFORM, retired, now_ms=now_ms)
