"""The statements on the feed of access changes."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.gate import MAX_LIFETIME_S
from common.tenancy import of_every_tenant
from user_service.access_changes.noting import FEED, Subject
from user_service.access_changes.tables import AccessChangeRow, AccessMarkRow
from user_service.api_keys.tables import ApiKeyRow
from user_service.institutions.tables import InstitutionRow
from user_service.numbering import CounterRow
from user_service.sessions.tables import SessionRow

MARKS_KEPT = 100_000
LONGEST_TOKEN_MS = MAX_LIFETIME_S * 1000
_TOLD = "the feed tells services about all institutions"
_USES = "services tell when keys of all institutions were used"


async def last_change(session: AsyncSession) -> tuple[int, str]:
    """Return version and mark of the last change that was committed."""
    query = select(AccessChangeRow.version, AccessChangeRow.mark).order_by(AccessChangeRow.version.desc())
    found = (await session.execute(query.limit(1))).first()
    return (0, "") if found is None else (found.version, found.mark)


async def is_change(session: AsyncSession, version: int, mark: str) -> bool:
    """Say whether `version` has this mark; after `MARKS_KEPT` later changes nobody knows."""
    query = select(AccessMarkRow.mark).where(AccessMarkRow.version == version)
    return mark == await session.scalar(query)


async def changes_after(session: AsyncSession, version: int, *, limit: int) -> Sequence[AccessChangeRow]:
    """Return the changes after `version`, oldest first."""
    query = (
        select(AccessChangeRow)
        .where(AccessChangeRow.version > version)
        .order_by(AccessChangeRow.version)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def institutions(session: AsyncSession, ids: Collection[str]) -> Sequence[InstitutionRow]:
    """Return the institutions among `ids`, as they are now."""
    query = select(InstitutionRow).where(InstitutionRow.institution_id.in_(ids))
    return (await session.scalars(of_every_tenant(query, _TOLD))).all()


async def api_keys(session: AsyncSession, ids: Collection[str]) -> Sequence[ApiKeyRow]:
    """Return the API keys among `ids`, as they are now."""
    query = select(ApiKeyRow).where(ApiKeyRow.key_id.in_(ids))
    return (await session.scalars(of_every_tenant(query, _TOLD))).all()


async def ended_sessions(
    session: AsyncSession, ids: Collection[str], *, now_ms: int
) -> Sequence[tuple[str, int]]:
    """Return those ended sessions among `ids` of which a token may still be valid, and until when at the longest."""
    query = select(SessionRow.session_id, SessionRow.access_expires_at_ms, SessionRow.ended_at_ms).where(
        SessionRow.session_id.in_(ids), SessionRow.ended_at_ms.is_not(None), _may_have_a_token(now_ms)
    )
    return [
        (row.session_id, max(row.access_expires_at_ms, row.ended_at_ms + LONGEST_TOKEN_MS))
        for row in await session.execute(of_every_tenant(query, _TOLD))
    ]


async def forget_ended_sessions(session: AsyncSession, *, now_ms: int) -> None:
    """Delete changes about sessions none of whose access tokens can still be valid.

    The last change stays: it is what tells a reader that it is up to date.
    """
    alive = select(SessionRow.session_id).where(_may_have_a_token(now_ms))
    last = select(CounterRow.last).where(CounterRow.name == FEED).scalar_subquery()
    forgetting = (
        delete(AccessChangeRow)
        .where(
            AccessChangeRow.kind == Subject.SESSION.value,
            AccessChangeRow.subject_id.not_in(alive),
            AccessChangeRow.version < last,
        )
        .execution_options(synchronize_session=False)
    )
    await session.execute(of_every_tenant(forgetting, _TOLD))


async def forget_marks(session: AsyncSession) -> None:
    """Delete the marks of versions that no service which still runs can stand on."""
    last, _ = await last_change(session)
    forgetting = delete(AccessMarkRow).where(AccessMarkRow.version <= last - MARKS_KEPT)
    await session.execute(forgetting.execution_options(synchronize_session=False))


async def note_uses(session: AsyncSession, used_at_ms: Mapping[str, int]) -> None:
    """Keep the greatest time of use of each key; keys that are not known are passed over."""
    table = ApiKeyRow.__table__
    earlier = or_(table.c.last_used_at_ms.is_(None), table.c.last_used_at_ms < bindparam("used"))
    statement = (
        update(ApiKeyRow.__table__)  # type: ignore[arg-type]  # declared as a wider type
        .where(table.c.key_id == bindparam("key"), earlier)
        .values(last_used_at_ms=bindparam("used"))
    )
    # in one order, so that two services that tell of the same keys never wait for each other
    rows = [{"key": key_id, "used": used_at_ms[key_id]} for key_id in sorted(used_at_ms)]
    if rows:
        await (await session.connection()).execute(of_every_tenant(statement, _USES), rows)


def _may_have_a_token(now_ms: int) -> ColumnElement[bool]:
    """Tell sessions whose tokens have all expired from the others.

    A token that was issued while the session ended may live longer than the session's row said then.
    """
    return or_(SessionRow.access_expires_at_ms > now_ms, SessionRow.ended_at_ms > now_ms - LONGEST_TOKEN_MS)
