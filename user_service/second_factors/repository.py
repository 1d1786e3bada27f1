"""The statements on second factors and recovery codes."""

from collections.abc import Collection

from sqlalchemy import CursorResult, delete, or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.auth.tables import RecoveryCodeRow
from user_service.users.tables import UserRow


async def use_step(session: AsyncSession, user: UserRow, step: int) -> bool:
    """Use a time step's code up; False when it, or a later one, was used before, or the secret is another one now."""
    used = await session.execute(
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.totp_secret == user.totp_secret,
            or_(UserRow.totp_last_step.is_(None), UserRow.totp_last_step < step),
        )
        .values(totp_last_step=step)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(used, CursorResult)  # noqa: S101 - what an UPDATE returns
    return used.rowcount == 1


async def use_recovery_code(session: AsyncSession, user_id: str, digest: str, *, now_ms: int) -> bool:
    """Use a recovery code up; False when there is none that was not used before."""
    used = await session.execute(
        update(RecoveryCodeRow)
        .where(
            RecoveryCodeRow.digest == digest,
            RecoveryCodeRow.user_id == user_id,
            RecoveryCodeRow.used_at_ms.is_(None),
        )
        .values(used_at_ms=now_ms)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(used, CursorResult)  # noqa: S101 - what an UPDATE returns
    return used.rowcount == 1


async def begin(session: AsyncSession, user_id: str, *, encrypted: str) -> bool:
    """Keep a secret that is not asked for yet; False when the account has a second factor."""
    return await _set(session, user_id, confirmed=False, totp_secret=encrypted, totp_last_step=None)


async def confirm(session: AsyncSession, user: UserRow, *, step: int, now_ms: int) -> bool:
    """Ask for the kept secret from now on; False when it is another one now or was confirmed before."""
    confirmed = await session.execute(
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.totp_secret == user.totp_secret,
            UserRow.totp_confirmed_at_ms.is_(None),
        )
        .values(totp_confirmed_at_ms=now_ms, totp_last_step=step)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(confirmed, CursorResult)  # noqa: S101 - what an UPDATE returns
    return confirmed.rowcount == 1


async def remove(session: AsyncSession, user_id: str) -> bool:
    """Remove the second factor with its recovery codes; False when there is none."""
    removed = await _set(
        session, user_id, confirmed=True, totp_secret=None, totp_last_step=None, totp_confirmed_at_ms=None
    )
    await _forget_codes(session, user_id)
    return removed


async def replace_recovery_codes(session: AsyncSession, user_id: str, digests: Collection[str]) -> None:
    """Keep new recovery codes instead of those there were."""
    await _forget_codes(session, user_id)
    session.add_all(RecoveryCodeRow(digest=digest, user_id=user_id) for digest in digests)
    await session.flush()


async def _forget_codes(session: AsyncSession, user_id: str) -> None:
    await session.execute(
        delete(RecoveryCodeRow)
        .where(RecoveryCodeRow.user_id == user_id)
        .execution_options(synchronize_session=False)
    )


async def _set(session: AsyncSession, user_id: str, *, confirmed: bool, **values: str | int | None) -> bool:
    is_on = UserRow.totp_confirmed_at_ms.is_not(None)
    changed = await session.execute(
        update(UserRow)
        .where(UserRow.user_id == user_id, is_on if confirmed else ~is_on)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(changed, CursorResult)  # noqa: S101 - what an UPDATE returns
    return changed.rowcount == 1
