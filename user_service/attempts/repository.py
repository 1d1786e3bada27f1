"""The statements on failed attempts."""

from collections.abc import Collection

from sqlalchemy import CursorResult, and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.attempts.policy import MEMORY_MS, WINDOW_MS, Tally
from user_service.auth.tables import AttemptsRow


async def read_tallies(session: AsyncSession, keys: Collection[str]) -> list[Tally]:
    """Return the tallies that there are under `keys`."""
    query = select(AttemptsRow.failures, AttemptsRow.first_at_ms, AttemptsRow.locked_until_ms).where(
        AttemptsRow.key.in_(keys)
    )
    return [Tally(*row) for row in await session.execute(query)]


async def hold_tally(session: AsyncSession, key: str, *, now_ms: int) -> Tally:
    """Return the tally under `key`; until the commit nobody else gets it this way."""
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    held = (
        make(AttemptsRow)
        .values(key=key, failures=0, first_at_ms=now_ms, locked_until_ms=0)
        .on_conflict_do_update(index_elements=["key"], set_={"failures": AttemptsRow.failures})
        .returning(AttemptsRow.failures, AttemptsRow.first_at_ms, AttemptsRow.locked_until_ms)
    )
    return Tally(*(await session.execute(held)).one())


async def keep_tally(session: AsyncSession, key: str, tally: Tally) -> None:
    """Store a tally that is held."""
    await session.execute(
        update(AttemptsRow)
        .where(AttemptsRow.key == key)
        .values(failures=tally.failures, first_at_ms=tally.first_at_ms, locked_until_ms=tally.locked_until_ms)
        .execution_options(synchronize_session=False)
    )


async def forget_tally(session: AsyncSession, key: str) -> None:
    """Forget all failures under `key`."""
    await session.execute(
        delete(AttemptsRow).where(AttemptsRow.key == key).execution_options(synchronize_session=False)
    )


async def forget_old_tallies(session: AsyncSession, *, now_ms: int) -> int:
    """Forget what counts no more and nobody holds, and return how many there were."""
    old = (
        select(AttemptsRow.key)
        .where(
            or_(
                and_(AttemptsRow.locked_until_ms == 0, AttemptsRow.first_at_ms <= now_ms - WINDOW_MS),
                and_(AttemptsRow.locked_until_ms > 0, AttemptsRow.locked_until_ms <= now_ms - MEMORY_MS),
            )
        )
        .with_for_update(skip_locked=True)
    )
    forgotten = await session.execute(
        delete(AttemptsRow).where(AttemptsRow.key.in_(old)).execution_options(synchronize_session=False)
    )
    assert isinstance(forgotten, CursorResult)  # noqa: S101 - what a DELETE returns
    return forgotten.rowcount
