"""The statements on signing keys."""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.auth.tables import SigningKeyRow


async def newest(session: AsyncSession, *, limit: int) -> Sequence[SigningKeyRow]:
    """Return the newest keys, also retired ones, newest first."""
    query = select(SigningKeyRow).order_by(SigningKeyRow.generation.desc()).limit(limit)
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
