"""Sessions: seen and ended by their owner."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.cursors import from_id_cursor, to_id_cursor
from common.errors import NotFoundError
from common.paging import cut
from user_service.events.recording import actor_of
from user_service.sessions import repository
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.sessions.schemas import OpenSession, OpenSessions
from user_service.sessions.tables import SessionRow
from user_service.times import to_time
from user_service.users.acting import find_caller


@dataclass(frozen=True)
class Sessions:
    """The caller's own sessions."""

    async def page(
        self, session: AsyncSession, caller: Principal, *, cursor: str | None, limit: int, now_ms: int
    ) -> OpenSessions:
        """Return some of the caller's open sessions, the newest first; raises `CursorInvalidError`."""
        found = await repository.open_sessions(
            session,
            caller.institution_id,
            caller.subject,
            before=from_id_cursor(cursor),
            limit=limit + 1,
            now_ms=now_ms,
        )
        rows, next_cursor = cut(found, limit, lambda row: to_id_cursor(row.session_id))
        items = tuple(_shown(row, current=caller.session_id) for row in rows)
        return OpenSessions(items=items, next_cursor=next_cursor)

    async def end_one(
        self, session: AsyncSession, caller: Principal, session_id: str, *, now_ms: int
    ) -> None:
        """End one of the caller's sessions, perhaps this one; raises `NotFoundError`."""
        account = await find_caller(session, caller)
        if not await end_sessions(session, account, _revoking(caller, only=session_id), now_ms=now_ms):
            raise NotFoundError

    async def end_others(self, session: AsyncSession, caller: Principal, *, now_ms: int) -> None:
        """End all of the caller's sessions but this one."""
        account = await find_caller(session, caller)
        await end_sessions(session, account, _revoking(caller, keep=caller.session_id), now_ms=now_ms)


def _revoking(caller: Principal, *, only: str | None = None, keep: str | None = None) -> Ending:
    return Ending(actor_of(caller), EndReason.REVOKED, only=only, keep=keep)


def _shown(row: SessionRow, *, current: str) -> OpenSession:
    return OpenSession(
        session_id=row.session_id,
        created_at=to_time(row.created_at_ms),
        last_used_at=to_time(row.last_used_at_ms),
        expires_at=to_time(row.expires_at_ms),
        ip_address=row.ip_address,
        user_agent=row.user_agent,
        current=row.session_id == current,
    )
