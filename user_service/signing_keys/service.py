"""What operators see and ask for of the signing keys."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.auth.principal import Principal
from common.cursors import from_cursor, to_cursor
from common.paging import cut
from user_service.approvals.actions import ApprovalAction, Wanted, actor_for
from user_service.approvals.schemas import ApprovalView
from user_service.approvals.service import FourEyes
from user_service.signing_keys import repository
from user_service.signing_keys.schedule import KeyTimes
from user_service.signing_keys.schemas import SigningKeyPage, SigningKeyView
from user_service.signing_keys.store import KeyStore, refuse_second_rotation
from user_service.signing_keys.tables import SigningKeyRow
from user_service.times import to_time, to_time_or_none

ALL_KEYS = "signing_keys"


@dataclass(frozen=True)
class RotateSigningKey:
    """What an approved rotation does."""

    store: KeyStore

    async def __call__(self, session: AsyncSession, approval: Approval, now_ms: int) -> str:
        """Rotate for whoever asked; returns the new key's id, raises `RotationUnderWayError`."""
        return (await self.store.rotate(session, actor=actor_for(approval), now_ms=now_ms)).kid


@dataclass(frozen=True)
class SigningKeys:
    """The keys, and how operators have them rotated."""

    four_eyes: FourEyes

    async def page(
        self, session: AsyncSession, *, cursor: str | None, limit: int, now_ms: int
    ) -> SigningKeyPage:
        """Return some keys, also retired ones, newest first; raises `CursorInvalidError`."""
        signing = next(
            (row.kid for row in await repository.published(session, now_ms=now_ms) if _may_sign(row, now_ms)),
            None,
        )
        found = await repository.newest(session, before=from_cursor(cursor), limit=limit + 1)
        rows, next_cursor = cut(found, limit, lambda row: to_cursor(row.generation))
        items = [_shown(row, is_signing=row.kid == signing, now_ms=now_ms) for row in rows]
        return SigningKeyPage(items=items, next_cursor=next_cursor)

    async def ask_for_rotation(
        self, session: AsyncSession, caller: Principal, *, now_ms: int
    ) -> ApprovalView:
        """Ask another operator to agree to a rotation.

        Raises `RotationUnderWayError` and what `FourEyes.ask` raises.
        """
        refuse_second_rotation(await repository.published(session, now_ms=now_ms))
        wanted = Wanted(ApprovalAction.ROTATE_SIGNING_KEY, {}, subject_id=ALL_KEYS)
        return (await self.four_eyes.ask(session, caller, wanted, now_ms=now_ms)).approval


def _times(row: SigningKeyRow) -> KeyTimes:
    return KeyTimes(row.created_at_ms, row.signs_from_ms, row.retired_at_ms)


def _may_sign(row: SigningKeyRow, now_ms: int) -> bool:
    return _times(row).may_sign(now_ms)


def _shown(row: SigningKeyRow, *, is_signing: bool, now_ms: int) -> SigningKeyView:
    return SigningKeyView(
        kid=row.kid,
        state=_times(row).state(now_ms, is_newest_that_may_sign=is_signing),
        created_at=to_time(row.created_at_ms),
        signs_from=to_time(row.signs_from_ms),
        retired_at=to_time_or_none(row.retired_at_ms),
    )
