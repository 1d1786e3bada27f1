"""The statements on API keys."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant, of_tenant
from user_service.api_keys.tables import ApiKeyRow
from user_service.institutions.tables import InstitutionRow
from user_service.statements import rows_changed

_BY_DIGEST = "whose a key is, the key says"
_CONFIGURED = "the settings name the maker of their keys, whose institution may have been another one before"


async def add_key(session: AsyncSession, key: ApiKeyRow) -> None:
    """Store a new key."""
    session.add(key)
    await session.flush()


async def find_key(session: AsyncSession, key_id: str, *, institution_id: str) -> ApiKeyRow | None:
    """Return one key of an institution, as it is now."""
    query = select(ApiKeyRow).where(ApiKeyRow.key_id == key_id).execution_options(populate_existing=True)
    found: ApiKeyRow | None = await session.scalar(of_tenant(institution_id, query))
    return found


async def list_keys(
    session: AsyncSession, institution_id: str, *, before: str | None, limit: int
) -> Sequence[ApiKeyRow]:
    """Return keys of an institution, newest first; `before` is the id of the last one of the page before."""
    query = select(ApiKeyRow)
    if before is not None:
        query = query.where(ApiKeyRow.key_id < before)
    query = query.order_by(ApiKeyRow.key_id.desc()).limit(limit)
    return (await session.scalars(of_tenant(institution_id, query))).all()


async def count_keys(session: AsyncSession, institution_id: str, *, now_ms: int) -> tuple[int, int]:
    """Return how many keys of an institution work, and how many of them are not about to be replaced."""
    # a column that is counted leaves out where it is null
    query = select(func.count(), func.count(ApiKeyRow.replaced_by)).where(_works(now_ms))
    working, replaced = (await session.execute(of_tenant(institution_id, query))).one()
    return working, working - replaced


async def find_by_digest(session: AsyncSession, digest: str) -> tuple[ApiKeyRow, InstitutionRow] | None:
    """Return the key with this digest, whatever has become of it, and its institution."""
    query = select(ApiKeyRow, InstitutionRow).join(InstitutionRow).where(ApiKeyRow.digest == digest)
    found = (await session.execute(of_every_tenant(query, _BY_DIGEST))).one_or_none()
    return None if found is None else (found[0], found[1])


async def hold_configured(
    session: AsyncSession, makers: Collection[str], digests: Collection[str], *, now_ms: int
) -> Sequence[tuple[ApiKeyRow, InstitutionRow]]:
    """Return the keys of `makers` that work and all with these digests, each with its institution.

    They stay as they are until the commit, and are held in the order of `note_uses`.
    """
    query = (
        select(ApiKeyRow, InstitutionRow)
        .join(InstitutionRow)
        .where(
            or_(ApiKeyRow.digest.in_(digests), and_(ApiKeyRow.created_by.in_(makers), _works(now_ms))),
        )
        .order_by(ApiKeyRow.key_id)
        .with_for_update(of=ApiKeyRow)
        .execution_options(populate_existing=True)
    )
    found = await session.execute(of_every_tenant(query, _CONFIGURED))
    return [(row, owner) for row, owner in found]


async def hold_keys_of(
    session: AsyncSession, institution_id: str, created_by: str, *, now_ms: int
) -> Sequence[ApiKeyRow]:
    """Return the keys of one maker that work, as they stay until the commit; held in the order of `note_uses`."""
    query = (
        select(ApiKeyRow)
        .where(ApiKeyRow.created_by == created_by, _works(now_ms))
        .order_by(ApiKeyRow.key_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return (await session.scalars(of_tenant(institution_id, query))).all()


async def replace_key(
    session: AsyncSession, key: ApiKeyRow, *, by: str, expires_at_ms: int, now_ms: int
) -> bool:
    """Let a key expire because another takes its place; False when it does not work or was replaced already."""
    return await _change(
        session,
        key.institution_id,
        and_(ApiKeyRow.key_id == key.key_id, _works(now_ms), ApiKeyRow.replaced_by.is_(None)),
        replaced_by=by,
        expires_at_ms=expires_at_ms,
    )


async def expire_key(session: AsyncSession, key: ApiKeyRow, *, now_ms: int) -> bool:
    """End a key so that it can be restored; False when it does not work."""
    works = and_(ApiKeyRow.key_id == key.key_id, _works(now_ms))
    return await _change(session, key.institution_id, works, expires_at_ms=now_ms)


async def restore_key(session: AsyncSession, key: ApiKeyRow, *, name: str, scopes: str, made_by: str) -> bool:
    """Let a key of the settings work under a name; False when it does already, or a person has ended it."""
    other = or_(ApiKeyRow.expires_at_ms.is_not(None), ApiKeyRow.created_by != made_by)
    ended_by_nobody = and_(ApiKeyRow.revoked_at_ms.is_(None), ApiKeyRow.replaced_by.is_(None))
    is_it = and_(ApiKeyRow.key_id == key.key_id, other, ended_by_nobody)
    return await _change(
        session,
        key.institution_id,
        is_it,
        expires_at_ms=None,
        name=name,
        scopes=scopes,
        created_by=made_by,
    )


async def revoke_key(session: AsyncSession, key: ApiKeyRow, *, now_ms: int) -> bool:
    """End a key for good; False when somebody did before."""
    is_it = and_(ApiKeyRow.key_id == key.key_id, ApiKeyRow.revoked_at_ms.is_(None))
    return await _change(session, key.institution_id, is_it, revoked_at_ms=now_ms)


def _works(now_ms: int) -> ColumnElement[bool]:
    is_open = or_(ApiKeyRow.expires_at_ms.is_(None), ApiKeyRow.expires_at_ms > now_ms)
    return and_(ApiKeyRow.revoked_at_ms.is_(None), is_open)


async def _change(
    session: AsyncSession, institution_id: str, which: ColumnElement[bool], **values: str | int | None
) -> bool:
    change = update(ApiKeyRow).where(which).values(**values)
    return await rows_changed(session, of_tenant(institution_id, change)) == 1
