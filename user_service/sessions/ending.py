"""end_sessions(): takes a user's rights away, everywhere within a minute."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from user_service.access_changes.noting import Subject, note_change
from user_service.events.recording import Action, Actor, Event, record
from user_service.notices.security_changes import tell_of_reuse
from user_service.sessions import repository
from user_service.users.accounts_repository import Account


class EndReason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    REVOKED = "revoked"
    REUSED = "refresh_token_reused"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - what happened, no secret
    PASSWORD_RESET = "password_reset"  # noqa: S105
    ROLE_CHANGED = "role_changed"
    GUESSED = "too_many_attempts"
    DISABLED = "disabled"
    SECOND_FACTOR_REMOVED = "second_factor_removed"


@dataclass(frozen=True, slots=True)
class Ending:
    """Who ends which sessions, and why: all of them, `only` one, or all but `keep`.

    Of a reuse the owner is told, with the address it came from.
    """

    actor: Actor
    reason: EndReason
    only: str | None = None
    keep: str | None = None
    ip_address: str = ""


async def end_sessions(session: AsyncSession, account: Account, ending: Ending, *, now_ms: int) -> list[str]:
    """End sessions of `account`, record it and tell all services; return those that had not ended before."""
    user_id = account.user.user_id
    ended = await repository.end_sessions(
        session, account.user, only=ending.only, keep=ending.keep, now_ms=now_ms
    )
    action = Action.SESSION_REUSED if ending.reason is EndReason.REUSED else Action.SESSION_ENDED
    details = {"user_id": user_id, "reason": ending.reason.value}
    # events first, then the feed, as everywhere: whoever takes their numbers crosswise waits for each other
    for session_id in ended:
        event = Event(action, ending.actor, "session", session_id, details)
        await record(session, account.institution.as_contract(), event, now_ms=now_ms)
    if ended and ending.reason is EndReason.REUSED:
        await tell_of_reuse(session, account, ending.ip_address, now_ms=now_ms)
    for session_id in ended:
        await note_change(session, Subject.SESSION, session_id)
    return ended
