"""The statements on second factors and recovery codes."""

from collections.abc import Collection

from sqlalchemy import delete, or_, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_tenant
from user_service.second_factors.tables import RecoveryCodeRow
from user_service.statements import rows_changed
from user_service.users.tables import UserRow


async def use_step(session: AsyncSession, user: UserRow, step: int) -> bool:
    """Use a time step's code up; False when it, or a later one, was used before, or the secret is another one now."""
    using = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.totp_secret == user.totp_secret,
            or_(UserRow.totp_last_step.is_(None), UserRow.totp_last_step < step),
        )
        .values(totp_last_step=step)
    )
    return await rows_changed(session, of_tenant(user.institution_id, using)) == 1


async def use_recovery_code(session: AsyncSession, user: UserRow, digest: str, *, now_ms: int) -> bool:
    """Use a recovery code up; False when there is none that was not used before."""
    using = (
        update(RecoveryCodeRow)
        .where(
            RecoveryCodeRow.digest == digest,
            RecoveryCodeRow.user_id == user.user_id,
            RecoveryCodeRow.used_at_ms.is_(None),
        )
        .values(used_at_ms=now_ms)
    )
    return await rows_changed(session, of_tenant(user.institution_id, using)) == 1


async def begin(session: AsyncSession, user: UserRow, *, encrypted: str) -> bool:
    """Keep a secret that is not asked for yet; False when the account has a second factor."""
    return await _set(session, user, confirmed=False, totp_secret=encrypted, totp_last_step=None)


async def confirm(session: AsyncSession, user: UserRow, *, step: int, now_ms: int) -> bool:
    """Ask for the kept secret from now on; False when it is another one now or was confirmed before."""
    confirming = (
        update(UserRow)
        .where(
            UserRow.user_id == user.user_id,
            UserRow.totp_secret == user.totp_secret,
            UserRow.totp_confirmed_at_ms.is_(None),
        )
        .values(totp_confirmed_at_ms=now_ms, totp_last_step=step)
    )
    return await rows_changed(session, of_tenant(user.institution_id, confirming)) == 1


async def remove(session: AsyncSession, user: UserRow) -> bool:
    """Remove the second factor with its recovery codes; False when there is none."""
    removed = await _set(
        session, user, confirmed=True, totp_secret=None, totp_last_step=None, totp_confirmed_at_ms=None
    )
    await _forget_codes(session, user)
    return removed


async def replace_recovery_codes(session: AsyncSession, user: UserRow, digests: Collection[str]) -> None:
    """Keep new recovery codes instead of those there were."""
    await _forget_codes(session, user)
    session.add_all(RecoveryCodeRow(digest=digest, user_id=user.user_id) for digest in digests)
    await session.flush()


async def _forget_codes(session: AsyncSession, user: UserRow) -> None:
    forgetting = (
        delete(RecoveryCodeRow)
        .where(RecoveryCodeRow.user_id == user.user_id)
        .execution_options(synchronize_session=False)
    )
    await session.execute(of_tenant(user.institution_id, forgetting))


async def _set(session: AsyncSession, user: UserRow, *, confirmed: bool, **values: str | int | None) -> bool:
    is_on = UserRow.totp_confirmed_at_ms.is_not(None)
    change = (
        update(UserRow)
        .where(UserRow.user_id == user.user_id, is_on if confirmed else ~is_on)
        .values(**values)
    )
    return await rows_changed(session, of_tenant(user.institution_id, change)) == 1
