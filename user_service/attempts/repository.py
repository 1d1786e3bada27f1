"""The statements on failed attempts and known addresses."""

from collections.abc import Collection, Mapping

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from user_service.attempts.policy import MEMORY_MS, MOST_KNOWN, WINDOW_MS, Tally
from user_service.attempts.tables import AttemptsRow, KnownAddressRow
from user_service.statements import insert_or, rows_changed

_TALLY = (
    AttemptsRow.failures,
    AttemptsRow.first_at_ms,
    AttemptsRow.locked_until_ms,
    AttemptsRow.paced_until_ms,
    AttemptsRow.waits_until_ms,
    AttemptsRow.on_account,
    AttemptsRow.on_account_since_ms,
    AttemptsRow.window_ms,
)


async def read_tallies(session: AsyncSession, keys: Collection[str]) -> Mapping[str, Tally]:
    """Return the tallies that there are under `keys`."""
    query = select(AttemptsRow.key, *_TALLY).where(AttemptsRow.key.in_(keys))
    return {key: Tally(*tally) for key, *tally in await session.execute(query)}


async def hold_tally(session: AsyncSession, key: str, *, account: str | None, now_ms: int) -> Tally:
    """Return the tally under `key`; until the commit nobody else gets it this way."""
    none = {
        "failures": 0,
        "first_at_ms": now_ms,
        "locked_until_ms": 0,
        "paced_until_ms": 0,
        "waits_until_ms": 0,
        "on_account": 0,
        "on_account_since_ms": 0,
        "window_ms": WINDOW_MS,
    }
    held = (
        insert_or(session, AttemptsRow)
        .values(key=key, account=account, **none)
        .on_conflict_do_update(index_elements=["key"], set_={"failures": AttemptsRow.failures})
        .returning(*_TALLY)
    )
    tally: list[int] = list((await session.execute(held)).one())
    return Tally(*tally)


async def keep_tally(session: AsyncSession, key: str, tally: Tally) -> None:
    """Store a tally that is held."""
    await session.execute(
        update(AttemptsRow)
        .where(AttemptsRow.key == key)
        .values(
            failures=tally.failures,
            first_at_ms=tally.first_at_ms,
            locked_until_ms=tally.locked_until_ms,
            paced_until_ms=tally.paced_until_ms,
            waits_until_ms=tally.waits_until_ms,
            on_account=tally.on_account,
            on_account_since_ms=tally.on_account_since_ms,
            window_ms=tally.window_ms,
        )
        .execution_options(synchronize_session=False)
    )


async def forgive(session: AsyncSession, *, account: str, place: str) -> None:
    """Forget the failures at `place`, and take those off the account's that are counted there too; both are keys.

    The account's come first, as they do when failures are counted, so that no two wait for each other.
    """
    at_place = aliased(AttemptsRow)
    there = (
        select(at_place.on_account)
        .where(at_place.key == place, at_place.on_account_since_ms == AttemptsRow.first_at_ms)
        .scalar_subquery()
    )
    taken_off = AttemptsRow.failures - func.coalesce(there, 0)
    await session.execute(
        update(AttemptsRow)
        .where(AttemptsRow.key == account)
        .values(failures=case((taken_off > 0, taken_off), else_=0))
        .execution_options(synchronize_session=False)
    )
    nothing_left = and_(
        AttemptsRow.key == account, AttemptsRow.failures == 0, AttemptsRow.locked_until_ms == 0
    )
    await rows_changed(session, delete(AttemptsRow).where(or_(AttemptsRow.key == place, nothing_left)))


async def forget_account(session: AsyncSession, account: str) -> None:
    """Forget all failures at an account, wherever; `account` is the key of those over all addresses."""
    await rows_changed(session, delete(AttemptsRow).where(AttemptsRow.key == account))  # first, as everywhere
    await rows_changed(session, delete(AttemptsRow).where(AttemptsRow.account == account))


async def forget_old_tallies(session: AsyncSession, *, now_ms: int) -> int:
    """Forget what counts no more and nobody holds, and return how many there were."""
    old = (
        select(AttemptsRow.key)
        .where(
            or_(
                and_(
                    AttemptsRow.locked_until_ms == 0,
                    AttemptsRow.first_at_ms <= now_ms - AttemptsRow.window_ms,
                ),
                and_(
                    AttemptsRow.locked_until_ms > 0,
                    AttemptsRow.locked_until_ms <= now_ms - MEMORY_MS,
                    AttemptsRow.locked_until_ms <= now_ms - AttemptsRow.window_ms,
                ),
            )
        )
        .with_for_update(skip_locked=True)
    )
    return await rows_changed(session, delete(AttemptsRow).where(AttemptsRow.key.in_(old)))


async def forget_tallies_beyond(session: AsyncSession, most: int) -> int:
    """Forget of those that have never locked what counts no more soonest; return how many were beyond `most`."""
    too_many = (await session.scalar(select(func.count(AttemptsRow.key))) or 0) - most
    if too_many <= 0:
        return 0
    oldest = (
        select(AttemptsRow.key)
        .where(AttemptsRow.locked_until_ms == 0)
        .order_by(AttemptsRow.first_at_ms + AttemptsRow.window_ms)
        .limit(too_many)
        .with_for_update(skip_locked=True)
    )
    return await rows_changed(session, delete(AttemptsRow).where(AttemptsRow.key.in_(oldest)))


async def is_known(session: AsyncSession, key: str, *, since_ms: int) -> bool:
    """Say whether somebody was seen under `key` since then."""
    query = select(KnownAddressRow.key).where(
        KnownAddressRow.key == key, KnownAddressRow.seen_at_ms > since_ms
    )
    return await session.scalar(query) is not None


async def note_known(session: AsyncSession, key: str, *, account: str, now_ms: int) -> None:
    """Remember `key`; of one account only the newest are remembered."""
    seen = (
        insert_or(session, KnownAddressRow)
        .values(key=key, account=account, seen_at_ms=now_ms)
        .on_conflict_do_update(index_elements=["key"], set_={"seen_at_ms": now_ms})
    )
    await session.execute(seen)
    newest = (
        select(KnownAddressRow.key)
        .where(KnownAddressRow.account == account)
        .order_by(KnownAddressRow.seen_at_ms.desc(), KnownAddressRow.key)
        .limit(MOST_KNOWN)
    )
    older = KnownAddressRow.account == account, KnownAddressRow.key.not_in(newest)
    await rows_changed(session, delete(KnownAddressRow).where(*older))


async def forget_known(session: AsyncSession, *, before_ms: int) -> int:
    """Forget addresses where nobody was seen since then, and return how many there were."""
    old = (
        select(KnownAddressRow.key)
        .where(KnownAddressRow.seen_at_ms <= before_ms)
        .with_for_update(skip_locked=True)
    )
    return await rows_changed(session, delete(KnownAddressRow).where(KnownAddressRow.key.in_(old)))
