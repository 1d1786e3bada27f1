"""Who made an API key, and the keys of somebody who may not make any more.

Keys belong to the institution: what runs with them goes on without whoever made them, until somebody ends it.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.institutions import Institution
from common.contracts.roles import SCOPES_BY_ROLE, Role
from common.contracts.tokens import Scope
from user_service.access_changes.noting import Subject, note_change
from user_service.api_keys import repository
from user_service.api_keys.schemas import KeyMaker
from user_service.api_keys.tables import ApiKeyRow
from user_service.events.recording import Action, Actor, Event, record
from user_service.users.repository import find_people
from user_service.users.tables import UserRow


def may_make_keys(user: UserRow) -> bool:
    """Say whether somebody may make keys now."""
    return user.disabled_at_ms is None and Scope.API_KEYS_WRITE in SCOPES_BY_ROLE[Role(user.role)]


async def makers_of(
    session: AsyncSession, institution_id: str, keys: Sequence[ApiKeyRow]
) -> Mapping[str, KeyMaker]:
    """Return, by `created_by`, what has become of those who made these keys."""
    people = await find_people(session, institution_id, {key.created_by for key in keys})
    return {user.user_id: _maker(user) for user in people}


async def keys_left_by(
    session: AsyncSession, user: UserRow, *, revoke: bool, now_ms: int
) -> Sequence[ApiKeyRow]:
    """Return the keys that work and were made by somebody who may not make any more, after revoking them if wanted.

    It takes the rows of the keys, so it is called before an event is recorded; `record_revoked` and `note_revoked`
    follow.
    """
    if may_make_keys(user):
        return ()
    keys = await repository.hold_keys_of(session, user.institution_id, user.user_id, now_ms=now_ms)
    if revoke:
        for key in keys:
            key.revoked_at_ms = now_ms
        await session.flush()
    return keys


async def record_revoked(
    session: AsyncSession, institution: Institution, keys: Sequence[ApiKeyRow], actor: Actor, *, now_ms: int
) -> None:
    """Record the end of those among `keys` that were revoked."""
    for key in keys:
        if key.revoked_at_ms is not None:
            event = Event(Action.API_KEY_REVOKED, actor, "api_key", key.key_id, {"made_by": key.created_by})
            await record(session, institution, event, now_ms=now_ms)


async def note_revoked(session: AsyncSession, keys: Sequence[ApiKeyRow]) -> None:
    """Tell all services of those among `keys` that were revoked."""
    for key in keys:
        if key.revoked_at_ms is not None:
            await note_change(session, Subject.API_KEY, key.key_id)


def _maker(user: UserRow) -> KeyMaker:
    if user.disabled_at_ms is not None:
        return KeyMaker.DISABLED
    return KeyMaker.ACTIVE if may_make_keys(user) else KeyMaker.LOWERED
