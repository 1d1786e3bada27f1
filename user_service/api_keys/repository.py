"""The statements on API keys."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, CursorResult, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.api_keys.tables import ApiKeyRow
from user_service.institutions.tables import InstitutionRow


async def add_key(session: AsyncSession, key: ApiKeyRow) -> None:
    """Store a new key."""
    session.add(key)
    await session.flush()


async def find_key(session: AsyncSession, key_id: str, *, institution_id: str) -> ApiKeyRow | None:
    """Return one key of an institution, as it is now."""
    query = (
        select(ApiKeyRow)
        .where(ApiKeyRow.key_id == key_id, ApiKeyRow.institution_id == institution_id)
        .execution_options(populate_existing=True)
    )
    found: ApiKeyRow | None = await session.scalar(query)
    return found


async def list_keys(
    session: AsyncSession, institution_id: str, *, before: str | None, limit: int
) -> Sequence[ApiKeyRow]:
    """Return keys of an institution, newest first; `before` is the id of the last one of the page before."""
    query = select(ApiKeyRow).where(ApiKeyRow.institution_id == institution_id)
    if before is not None:
        query = query.where(ApiKeyRow.key_id < before)
    return (await session.scalars(query.order_by(ApiKeyRow.key_id.desc()).limit(limit))).all()


async def count_keys_in_use(session: AsyncSession, institution_id: str, *, now_ms: int) -> int:
    """Return how many keys of an institution work and are not about to be replaced."""
    query = select(func.count()).where(
        ApiKeyRow.institution_id == institution_id, _works(now_ms), ApiKeyRow.replaced_by.is_(None)
    )
    return await session.scalar(query) or 0


async def find_by_digest(session: AsyncSession, digest: str) -> tuple[ApiKeyRow, InstitutionRow] | None:
    """Return the key with this digest, whatever has become of it, and its institution."""
    query = select(ApiKeyRow, InstitutionRow).join(InstitutionRow).where(ApiKeyRow.digest == digest)
    found = (await session.execute(query)).one_or_none()
    return None if found is None else (found[0], found[1])


async def made_by(session: AsyncSession, created_by: str, *, now_ms: int) -> Sequence[ApiKeyRow]:
    """Return the keys of one maker that work."""
    query = select(ApiKeyRow).where(ApiKeyRow.created_by == created_by, _works(now_ms))
    return (await session.scalars(query)).all()


async def replace_key(
    session: AsyncSession, key: ApiKeyRow, *, by: str, expires_at_ms: int, now_ms: int
) -> bool:
    """Let a key expire because another takes its place; False when it does not work or was replaced already."""
    return await _change(
        session,
        and_(ApiKeyRow.key_id == key.key_id, _works(now_ms), ApiKeyRow.replaced_by.is_(None)),
        replaced_by=by,
        expires_at_ms=expires_at_ms,
    )


async def revoke_key(session: AsyncSession, key: ApiKeyRow, *, now_ms: int) -> bool:
    """End a key for good; False when somebody did before."""
    is_it = and_(ApiKeyRow.key_id == key.key_id, ApiKeyRow.revoked_at_ms.is_(None))
    return await _change(session, is_it, revoked_at_ms=now_ms)


def _works(now_ms: int) -> ColumnElement[bool]:
    is_open = or_(ApiKeyRow.expires_at_ms.is_(None), ApiKeyRow.expires_at_ms > now_ms)
    return and_(ApiKeyRow.revoked_at_ms.is_(None), is_open)


async def _change(session: AsyncSession, which: ColumnElement[bool], **values: str | int) -> bool:
    changed = await session.execute(
        update(ApiKeyRow).where(which).values(**values).execution_options(synchronize_session=False)
    )
    assert isinstance(changed, CursorResult)  # noqa: S101 - what an UPDATE returns
    return changed.rowcount == 1
