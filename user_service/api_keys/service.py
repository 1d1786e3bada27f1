"""Making, showing, replacing and ending API keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.contracts.institutions import Institution
from common.contracts.tokens import Scope
from common.errors import NotFoundError, PlatformError
from user_service.access.repository import Subject, note_change
from user_service.access.service import has_ended
from user_service.api_keys import repository
from user_service.api_keys.schemas import ApiKey, ApiKeyPage, IssuedApiKey, KeyState, NewApiKey, Rotation
from user_service.api_keys.tables import ApiKeyRow
from user_service.api_keys.texts import NewKey, new_key
from user_service.derived_keys import keyed_digest
from user_service.events.recording import Action, Actor, Event, actor_of, record

MAX_KEYS = 100
HOUR_MS = 3_600_000
SOON_MS = 7 * 24 * HOUR_MS
LONGEST_MS = 5 * 366 * 24 * HOUR_MS


class TooManyKeysError(PlatformError):
    """The institution has as many keys as it may have."""

    status_code = 409
    type = "too-many-keys"
    title = f"An institution has at most {MAX_KEYS} API keys in use"


class KeyEndedError(PlatformError):
    """The key is revoked, expired, or replaced already."""

    status_code = 409
    type = "key-ended"
    title = "This API key is revoked, expired or replaced already"


class ExpiryOutOfRangeError(PlatformError):
    """The key would expire in the past, or in many years."""

    status_code = 422
    type = "expiry-out-of-range"
    title = "An API key expires in the future, within five years"


@dataclass(frozen=True)
class ApiKeys:
    """The API keys of institutions."""

    hash_key: bytes = field(repr=False)

    async def create(
        self, session: AsyncSession, caller: Principal, wanted: NewApiKey, *, now_ms: int
    ) -> IssuedApiKey:
        """Make a key; raises `TooManyKeysError` and `ExpiryOutOfRangeError`."""
        expires_at_ms = None if wanted.expires_at is None else int(wanted.expires_at.timestamp() * 1000)
        if expires_at_ms is not None and not now_ms < expires_at_ms <= now_ms + LONGEST_MS:
            raise ExpiryOutOfRangeError
        made = new_key(caller.tenant.mode)
        row = self.row(made, caller.institution_id, wanted.name, wanted.scopes)
        row.created_by, row.created_at_ms, row.expires_at_ms = caller.subject, now_ms, expires_at_ms
        await self.store(session, row, caller.tenant, actor=actor_of(caller), now_ms=now_ms)
        # counted after the change was noted: that lets only one transaction at a time get here
        if await repository.count_keys_in_use(session, caller.institution_id, now_ms=now_ms) > MAX_KEYS:
            raise TooManyKeysError
        return _issued(row, made, now_ms=now_ms)

    async def page(
        self, session: AsyncSession, caller: Principal, *, cursor: str | None, limit: int, now_ms: int
    ) -> ApiKeyPage:
        """Return a page of the institution's keys, newest first."""
        rows = await repository.list_keys(session, caller.institution_id, before=cursor, limit=limit + 1)
        shown = rows[:limit]
        return ApiKeyPage(
            items=tuple(_shown(row, now_ms=now_ms) for row in shown),
            next_cursor=shown[-1].key_id if len(rows) > limit else None,
        )

    async def read(self, session: AsyncSession, caller: Principal, key_id: str, *, now_ms: int) -> ApiKey:
        """Return one key; raises `NotFoundError`."""
        return _shown(await _find(session, caller, key_id), now_ms=now_ms)

    async def rotate(
        self, session: AsyncSession, caller: Principal, key_id: str, rotation: Rotation, *, now_ms: int
    ) -> IssuedApiKey:
        """Make a key that takes another's place, with the same rights and as long a life.

        The other one goes on for the overlap. Raises `NotFoundError` and `KeyEndedError`.
        """
        former = await _find(session, caller, key_id)
        made = new_key(caller.tenant.mode)
        ends_ms = now_ms + rotation.overlap_hours * HOUR_MS
        if former.expires_at_ms is not None:
            ends_ms = min(ends_ms, former.expires_at_ms)
        if not await repository.replace_key(
            session, former, by=made.key_id, expires_at_ms=ends_ms, now_ms=now_ms
        ):
            raise KeyEndedError
        row = self.row(made, former.institution_id, former.name, _scopes(former))
        row.created_by, row.created_at_ms = caller.subject, now_ms
        if former.expires_at_ms is not None:
            row.expires_at_ms = now_ms + former.expires_at_ms - former.created_at_ms
        rotated = Event(
            Action.API_KEY_ROTATED,
            actor_of(caller),
            "api_key",
            former.key_id,
            {"replaced_by": row.key_id, "overlap_hours": rotation.overlap_hours},
        )
        await record(session, caller.tenant, rotated, now_ms=now_ms)
        await note_change(session, Subject.API_KEY, former.key_id)
        await self.store(session, row, caller.tenant, actor=actor_of(caller), now_ms=now_ms)
        return _issued(row, made, now_ms=now_ms)

    async def revoke(self, session: AsyncSession, caller: Principal, key_id: str, *, now_ms: int) -> None:
        """End a key for good, which may have ended before; raises `NotFoundError`."""
        row = await _find(session, caller, key_id)
        await end_key(session, row, caller.tenant, actor=actor_of(caller), now_ms=now_ms)

    def row(self, made: NewKey, institution_id: str, name: str, scopes: Sequence[Scope]) -> ApiKeyRow:
        """Return what is stored of a new key."""
        return ApiKeyRow(
            key_id=made.key_id,
            institution_id=institution_id,
            name=name,
            prefix=made.prefix,
            digest=keyed_digest(self.hash_key, made.text),
            scopes=" ".join(scope.value for scope in scopes),
        )

    async def store(
        self, session: AsyncSession, row: ApiKeyRow, institution: Institution, *, actor: Actor, now_ms: int
    ) -> None:
        """Store a new key and let everybody know."""
        await add_key(session, row, institution, actor=actor, now_ms=now_ms)
        await note_change(session, Subject.API_KEY, row.key_id)


async def add_key(
    session: AsyncSession, row: ApiKeyRow, institution: Institution, *, actor: Actor, now_ms: int
) -> None:
    """Store a new key; letting everybody know is left to the caller."""
    created = Event(
        Action.API_KEY_CREATED,
        actor,
        "api_key",
        row.key_id,
        {"scopes": row.scopes.split(), "expires_at_ms": row.expires_at_ms},
    )
    await record(session, institution, created, now_ms=now_ms)
    await repository.add_key(session, row)


async def end_key(
    session: AsyncSession, row: ApiKeyRow, institution: Institution, *, actor: Actor, now_ms: int
) -> None:
    """End a key for good and let everybody know, unless that was done before."""
    if await repository.revoke_key(session, row, now_ms=now_ms):
        revoked = Event(Action.API_KEY_REVOKED, actor, "api_key", row.key_id)
        await record(session, institution, revoked, now_ms=now_ms)
        await note_change(session, Subject.API_KEY, row.key_id)


async def _find(session: AsyncSession, caller: Principal, key_id: str) -> ApiKeyRow:
    row = await repository.find_key(session, key_id, institution_id=caller.institution_id)
    if row is None:
        raise NotFoundError
    return row


def _state(row: ApiKeyRow, *, now_ms: int) -> KeyState:
    if row.revoked_at_ms is not None:
        return KeyState.REVOKED
    if has_ended(row, now_ms=now_ms):
        return KeyState.EXPIRED
    ends_soon = row.expires_at_ms is not None and row.expires_at_ms - now_ms <= SOON_MS
    return KeyState.EXPIRING if ends_soon or row.replaced_by is not None else KeyState.ACTIVE


def _scopes(row: ApiKeyRow) -> tuple[Scope, ...]:
    return tuple(Scope(scope) for scope in row.scopes.split())


def _shown(row: ApiKeyRow, *, now_ms: int) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        name=row.name,
        prefix=row.prefix,
        scopes=_scopes(row),
        state=_state(row, now_ms=now_ms),
        created_at=_time(row.created_at_ms),
        created_by=row.created_by,
        expires_at=_time_or_none(row.expires_at_ms),
        revoked_at=_time_or_none(row.revoked_at_ms),
        last_used_at=_time_or_none(row.last_used_at_ms),
        replaced_by=row.replaced_by,
    )


def _issued(row: ApiKeyRow, made: NewKey, *, now_ms: int) -> IssuedApiKey:
    return IssuedApiKey(**_shown(row, now_ms=now_ms).model_dump(), key=made.text)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _time_or_none(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)
