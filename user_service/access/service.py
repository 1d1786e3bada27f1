"""The feed of who may still get in: read by every service, and by this one for itself."""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.access import AccessState
from common.clock import epoch_ms
from common.contracts.access import (
    MAX_CHANGES,
    AccessFeed,
    ApiKeyAccess,
    EndedSession,
    InstitutionAccess,
    KeyUses,
    OverQuota,
    Tier,
)
from common.contracts.tokens import Scope
from common.db import Database
from user_service.access import repository
from user_service.access_changes.noting import Subject
from user_service.access_changes.tables import AccessChangeRow
from user_service.api_keys.tables import ApiKeyRow, has_ended
from user_service.institutions.tables import InstitutionRow
from user_service.institutions.tiers import allowance_of

TIDY_S = 600.0


@dataclass(frozen=True)
class AccessFeeds:
    """Answers what changed about who may get in."""

    hash_key: bytes = field(repr=False)
    page: int = MAX_CHANGES

    async def read(self, session: AsyncSession, *, after: int, mark: str, now_ms: int) -> AccessFeed:
        """Return what changed after a version; everything, unless this database knows it by that mark.

        It may have known it, a hundred thousand changes ago.
        """
        if not after or not await repository.is_change(session, after, mark):
            after, mark = 0, ""
        found = await repository.changes_after(session, after, limit=self.page + 1)
        changes = found[: self.page]
        sessions = await repository.ended_sessions(session, _of(changes, Subject.SESSION), now_ms=now_ms)
        keys = await repository.api_keys(session, _of(changes, Subject.API_KEY))
        institutions = await repository.institutions(session, _of(changes, Subject.INSTITUTION))
        return AccessFeed(
            after=after,
            version=changes[-1].version if changes else after,
            mark=changes[-1].mark if changes else mark,
            more=len(found) > len(changes),
            hash_key=base64.b64encode(self.hash_key).decode(),
            institutions=tuple(_institution(row) for row in institutions),
            api_keys=tuple(_api_key(row) for row in keys if after or not has_ended(row, now_ms=now_ms)),
            ended_sessions=tuple(
                EndedSession(session_id=session_id, until=-(-until_ms // 1000))
                for session_id, until_ms in sessions
            ),
        )

    async def note_uses(self, session: AsyncSession, uses: KeyUses, *, now_ms: int) -> None:
        """Keep when keys were last used, for people who wonder which are still needed."""
        latest: dict[str, int] = {}
        for use in uses.uses:
            latest[use.key_id] = max(min(use.used_at_ms, now_ms), latest.get(use.key_id, 0))
        await repository.note_uses(session, latest)


class OwnAccess:
    """What this service's own verifier knows, brought up to date from the database whenever a caller is checked."""

    def __init__(self, database: Database, feeds: AccessFeeds) -> None:
        self.state = AccessState(goes_stale=False)
        self._database = database
        self._feeds = feeds
        self._catching_up = asyncio.Lock()

    async def catch_up(self) -> None:
        """Read every change that was committed until now, by whichever process."""
        async with self._database.sessions() as session:
            if await self._is_up_to_date(session):
                return
        async with self._catching_up, self._database.sessions() as session:
            if await self._is_up_to_date(session):  # whoever was before this one has read on
                return
            while await self._read_page(session):
                pass

    async def keep_uses(self, *, every_s: float) -> None:
        """Write down which keys were used here; runs until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            uses = self.state.take_uses()
            if uses:
                await self._keep(uses)

    async def keep_tidy(self) -> None:
        """Forget what no service needs any more; runs until cancelled."""
        while True:
            await asyncio.sleep(TIDY_S)
            async with self._database.sessions.begin() as session:
                await repository.forget_ended_sessions(session, now_ms=epoch_ms())
                await repository.forget_marks(session)

    async def _is_up_to_date(self, session: AsyncSession) -> bool:
        return await repository.last_change(session) == (self.state.version, self.state.mark)

    async def _read_page(self, session: AsyncSession) -> bool:
        now_ms = epoch_ms()
        state = self.state
        feed = await self._feeds.read(session, after=state.version, mark=state.mark, now_ms=now_ms)
        return state.apply(feed, as_of=time.monotonic(), now=now_ms // 1000)

    async def _keep(self, uses: Mapping[str, int]) -> None:
        try:
            async with self._database.sessions.begin() as session:
                await repository.note_uses(session, uses)
        except BaseException:
            self.state.put_back(uses)
            raise


def _of(changes: Sequence[AccessChangeRow], kind: Subject) -> list[str]:
    return [change.subject_id for change in changes if change.kind == kind.value]


def _institution(row: InstitutionRow) -> InstitutionAccess:
    return InstitutionAccess(
        institution=row.as_contract(),
        suspended=row.suspended_at_ms is not None,
        allowance=allowance_of(Tier(row.tier), OverQuota(row.over_quota)),
    )


def _api_key(row: ApiKeyRow) -> ApiKeyAccess:
    return ApiKeyAccess(
        key_id=row.key_id,
        institution_id=row.institution_id,
        digest=row.digest,
        scopes=tuple(Scope(scope) for scope in row.scopes.split()),
        expires_at=None if row.expires_at_ms is None else row.expires_at_ms // 1000,
        revoked=row.revoked_at_ms is not None,
    )
