"""Making, showing, replacing and ending API keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.contracts.institutions import Institution
from common.contracts.tokens import Scope
from common.cursors import from_id_cursor, to_id_cursor
from common.errors import NotFoundError, PlatformError
from common.paging import cut
from user_service.access_changes.noting import Subject, note_change
from user_service.api_keys import repository
from user_service.api_keys.makers import makers_of
from user_service.api_keys.schemas import (
    ApiKey,
    ApiKeyPage,
    IssuedApiKey,
    KeyMaker,
    KeyOfMember,
    KeyState,
    NewApiKey,
    Rotation,
)
from user_service.api_keys.tables import ApiKeyRow, has_ended
from user_service.api_keys.telling import KeyChange, tell_admins
from user_service.api_keys.texts import NewKey, new_key
from user_service.derived_keys import keyed_digest
from user_service.events.recording import Action, Actor, Event, actor_of, record
from user_service.notices.queue import as_moment, as_person
from user_service.times import DAY_MS, HOUR_MS, to_time, to_time_or_none
from user_service.users.acting import find_caller, keep_holder

MAX_KEYS = 100
MAX_WORKING_KEYS = 2 * MAX_KEYS
"""With those that were replaced and go on for a while: no rotation of what was rotated just now makes more."""
SOON_MS = 7 * DAY_MS
LONGEST_MS = 5 * 366 * DAY_MS


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
        """Make a key; raises `TooManyKeysError`, `ExpiryOutOfRangeError` and, of a role lowered just now, `ForbiddenError`."""
        expires_at_ms = None if wanted.expires_at is None else int(wanted.expires_at.timestamp() * 1000)
        if expires_at_ms is not None and not now_ms < expires_at_ms <= now_ms + LONGEST_MS:
            raise ExpiryOutOfRangeError
        maker = await keep_holder(session, caller, Scope.API_KEYS_WRITE)
        made = new_key(caller.tenant.mode)
        row = self.row(made, caller.institution_id, wanted.name, wanted.scopes)
        row.created_by, row.created_at_ms, row.expires_at_ms = caller.subject, now_ms, expires_at_ms
        await add_key(session, row, caller.tenant, actor=actor_of(caller), now_ms=now_ms)
        await tell_admins(
            session, row, KeyChange.CREATED, maker.institution, by=as_person(maker.user), now_ms=now_ms
        )
        await note_change(session, Subject.API_KEY, row.key_id)
        await _refuse_too_many(session, caller.institution_id, now_ms=now_ms)
        return _issued(row, made, now_ms=now_ms)

    async def page(
        self, session: AsyncSession, caller: Principal, *, cursor: str | None, limit: int, now_ms: int
    ) -> ApiKeyPage:
        """Return a page of the institution's keys, newest first; raises `CursorInvalidError`."""
        found = await repository.list_keys(
            session, caller.institution_id, before=from_id_cursor(cursor), limit=limit + 1
        )
        rows, next_cursor = cut(found, limit, lambda row: to_id_cursor(row.key_id))
        makers = await makers_of(session, caller.institution_id, rows)
        return ApiKeyPage(
            items=tuple(shown(row, makers, now_ms=now_ms) for row in rows), next_cursor=next_cursor
        )

    async def read(self, session: AsyncSession, caller: Principal, key_id: str, *, now_ms: int) -> ApiKey:
        """Return one key; raises `NotFoundError`."""
        row = await _find(session, caller, key_id)
        return shown(row, await makers_of(session, caller.institution_id, [row]), now_ms=now_ms)

    async def rotate(
        self, session: AsyncSession, caller: Principal, key_id: str, rotation: Rotation, *, now_ms: int
    ) -> IssuedApiKey:
        """Make a key that takes another's place, with the same rights and as long a life.

        The other one goes on for the overlap. Raises `NotFoundError`, `KeyEndedError`, and `TooManyKeysError` and
        `ForbiddenError` as `create`.
        """
        maker = await keep_holder(session, caller, Scope.API_KEYS_WRITE)
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
        await add_key(session, row, caller.tenant, actor=actor_of(caller), now_ms=now_ms)
        until = {"key_before": former.key_id, "works_until": as_moment(ends_ms)}
        await tell_admins(
            session,
            row,
            KeyChange.ROTATED,
            maker.institution,
            by=as_person(maker.user),
            now_ms=now_ms,
            more=until,
        )
        for changed in (former, row):
            await note_change(session, Subject.API_KEY, changed.key_id)
        await _refuse_too_many(session, caller.institution_id, now_ms=now_ms)
        return _issued(row, made, now_ms=now_ms)

    async def revoke(self, session: AsyncSession, caller: Principal, key_id: str, *, now_ms: int) -> None:
        """End a key for good, which may have ended before; raises `NotFoundError`."""
        by = await find_caller(session, caller)
        row = await _find(session, caller, key_id)
        if await repository.revoke_key(session, row, now_ms=now_ms):
            revoked = Event(Action.API_KEY_REVOKED, actor_of(caller), "api_key", row.key_id)
            await record(session, caller.tenant, revoked, now_ms=now_ms)
            await tell_admins(
                session, row, KeyChange.REVOKED, by.institution, by=as_person(by.user), now_ms=now_ms
            )
            await note_change(session, Subject.API_KEY, row.key_id)

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


def shown(row: ApiKeyRow, makers: Mapping[str, KeyMaker], *, now_ms: int) -> ApiKey:
    """Return a key as admins see it."""
    return ApiKey(
        **_known(row, now_ms=now_ms),
        created_at=to_time(row.created_at_ms),
        created_by=row.created_by,
        maker=makers.get(row.created_by, KeyMaker.SETTINGS),
        expires_at=to_time_or_none(row.expires_at_ms),
        revoked_at=to_time_or_none(row.revoked_at_ms),
        replaced_by=row.replaced_by,
    )


def shown_with_maker(row: ApiKeyRow, *, now_ms: int) -> KeyOfMember:
    """Return a key as it is named with whoever made it."""
    return KeyOfMember(**_known(row, now_ms=now_ms))


async def _refuse_too_many(session: AsyncSession, institution_id: str, *, now_ms: int) -> None:
    """Raise `TooManyKeysError`; called after the change was noted, which lets one transaction at a time get here."""
    working, in_use = await repository.count_keys(session, institution_id, now_ms=now_ms)
    if in_use > MAX_KEYS or working > MAX_WORKING_KEYS:
        raise TooManyKeysError


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


def _known(row: ApiKeyRow, *, now_ms: int) -> dict[str, Any]:
    return {
        "key_id": row.key_id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": _scopes(row),
        "state": _state(row, now_ms=now_ms),
        "last_used_at": to_time_or_none(row.last_used_at_ms),
    }


def _issued(row: ApiKeyRow, made: NewKey, *, now_ms: int) -> IssuedApiKey:
    makers = {row.created_by: KeyMaker.ACTIVE}
    return IssuedApiKey(**shown(row, makers, now_ms=now_ms).model_dump(), key=made.text)
