"""The statements on signing keys."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.signing_keys.tables import SigningKeyRow


async def newest(session: AsyncSession, *, limit: int, before: int | None = None) -> Sequence[SigningKeyRow]:
    """Return the newest keys, also retired ones, newest first; those before the generation `before`."""
    query = select(SigningKeyRow).order_by(SigningKeyRow.generation.desc()).limit(limit)
    if before is not None:
        # a cursor may hold any number of 64 bits
        query = query.where(SigningKeyRow.generation < literal(before, BigInteger()))
    return (await session.scalars(query)).all()


async def published(session: AsyncSession, *, now_ms: int) -> Sequence[SigningKeyRow]:
    """Return the keys that are not retired yet, newest first."""
    query = (
        select(SigningKeyRow)
        .where(or_(SigningKeyRow.retired_at_ms.is_(None), SigningKeyRow.retired_at_ms > now_ms))
        .order_by(SigningKeyRow.generation.desc())
    )
    return (await session.scalars(query)).all()


async def last_generation(session: AsyncSession) -> int:
    """Return the generation of the newest key, 0 when there was never one."""
    return await session.scalar(select(func.max(SigningKeyRow.generation))) or 0
