"""What operators see and ask for of the signing keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval
from common.auth.principal import Principal
from user_service.approvals.actions import ApprovalAction, Wanted
from user_service.approvals.schemas import ApprovalView
from user_service.approvals.service import FourEyes
from user_service.auth.tables import SigningKeyRow
from user_service.events.recording import Actor
from user_service.signing_keys import repository
from user_service.signing_keys.schedule import KeyTimes
from user_service.signing_keys.schemas import SigningKeyList, SigningKeyView
from user_service.signing_keys.store import KeyStore, refuse_second_rotation

SHOWN = 100
ALL_KEYS = "signing_keys"


@dataclass(frozen=True)
class RotateSigningKey:
    """What an approved rotation does."""

    store: KeyStore

    async def __call__(self, session: AsyncSession, approval: Approval, now_ms: int) -> str:
        """Rotate for whoever asked; returns the new key's id, raises `RotationUnderWayError`."""
        actor = Actor("user", approval.requested_by)
        return (await self.store.rotate(session, actor=actor, now_ms=now_ms)).kid


@dataclass(frozen=True)
class SigningKeys:
    """The keys, and how operators have them rotated."""

    four_eyes: FourEyes

    async def list(self, session: AsyncSession, *, now_ms: int) -> SigningKeyList:
        """Return the newest keys, also retired ones."""
        return shown(await repository.newest(session, limit=SHOWN), now_ms=now_ms)

    async def ask_for_rotation(
        self, session: AsyncSession, caller: Principal, *, now_ms: int
    ) -> ApprovalView:
        """Ask another operator to agree to a rotation.

        Raises `RotationUnderWayError` and what `FourEyes.ask` raises.
        """
        refuse_second_rotation(await repository.published(session, now_ms=now_ms))
        wanted = Wanted(ApprovalAction.ROTATE_SIGNING_KEY, {}, subject_id=ALL_KEYS)
        return (await self.four_eyes.ask(session, caller, wanted, now_ms=now_ms)).approval


def shown(rows: Sequence[SigningKeyRow], *, now_ms: int) -> SigningKeyList:
    """Return `rows`, newest first, as they are at `now_ms`."""
    times = [KeyTimes(row.created_at_ms, row.signs_from_ms, row.retired_at_ms) for row in rows]
    signing = next((its for its in times if its.may_sign(now_ms)), None)
    return SigningKeyList(
        items=[
            SigningKeyView(
                kid=row.kid,
                state=its.state(now_ms, is_newest_that_may_sign=its is signing),
                created_at=_time(row.created_at_ms),
                signs_from=_time(row.signs_from_ms),
                retired_at=None if row.retired_at_ms is None else _time(row.retired_at_ms),
            )
            for row, its in zip(rows, times, strict=True)
        ]
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
