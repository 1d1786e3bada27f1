"""What operators see and change of tenants, and what a tenant sees and changes of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.cursors import from_id_cursor, to_id_cursor
from common.errors import NotFoundError
from common.paging import cut
from user_service.access_changes.noting import Subject, note_change
from user_service.events.recording import Action, Event, actor_of, record
from user_service.institutions import repository
from user_service.institutions.repository import InstitutionFilter
from user_service.institutions.schemas import (
    InstitutionChange,
    InstitutionPage,
    InstitutionView,
    OwnInstitutionChange,
    view_of,
)
from user_service.institutions.tables import InstitutionRow

ONLY_THE_NAME = {"changed": "name"}  # nobody gets in by it


@dataclass(frozen=True)
class Administration:
    """Tenants, as those who run the platform and those who run a tenant change them."""

    async def page(
        self, session: AsyncSession, wanted: InstitutionFilter, *, cursor: str | None, limit: int
    ) -> InstitutionPage:
        """Return tenants, newest first; raises `CursorInvalidError`."""
        found = await repository.page(session, wanted, before=from_id_cursor(cursor), limit=limit + 1)
        rows, next_cursor = cut(found, limit, lambda row: to_id_cursor(row.institution_id))
        return InstitutionPage(items=[view_of(row) for row in rows], next_cursor=next_cursor)

    async def read(self, session: AsyncSession, institution_id: str) -> InstitutionView:
        """Return one tenant; raises `NotFoundError`."""
        return view_of(await _tenant(session, institution_id))

    async def change(
        self,
        session: AsyncSession,
        caller: Principal,
        institution_id: str,
        change: InstitutionChange,
        *,
        now_ms: int,
    ) -> InstitutionView:
        """Change a tenant's tier, or let nobody of it in any more, or again; raises `NotFoundError`."""
        row = await _tenant(session, institution_id)
        happened: list[tuple[Action, dict[str, str]]] = []
        if change.tier is not None and change.tier.value != row.tier:
            details = {"tier": change.tier.value, "tier_before": row.tier}
            happened.append((Action.INSTITUTION_CHANGED, details))
            row.tier = change.tier.value
        if change.suspended is not None and change.suspended != (row.suspended_at_ms is not None):
            row.suspended_at_ms = now_ms if change.suspended else None
            action = Action.INSTITUTION_SUSPENDED if change.suspended else Action.INSTITUTION_RESUMED
            happened.append((action, {}))
        await _changed(session, row, caller, happened, now_ms=now_ms)
        return view_of(row)

    async def read_own(self, session: AsyncSession, caller: Principal) -> InstitutionView:
        """Return the caller's own institution; raises `NotFoundError`."""
        return view_of(await _own(session, caller))

    async def change_own(
        self, session: AsyncSession, caller: Principal, change: OwnInstitutionChange, *, now_ms: int
    ) -> InstitutionView:
        """Change the caller's own institution; raises `NotFoundError`."""
        row = await _own(session, caller)
        details: dict[str, str] = {}
        if change.name is not None and change.name != row.name:
            row.name = change.name
            details["changed"] = "name"
        if change.over_quota is not None and change.over_quota.value != row.over_quota:
            details |= {"over_quota": change.over_quota.value, "over_quota_before": row.over_quota}
            row.over_quota = change.over_quota.value
        happened = [(Action.INSTITUTION_CHANGED, details)] if details else []
        await _changed(session, row, caller, happened, now_ms=now_ms)
        return view_of(row)


async def _tenant(session: AsyncSession, institution_id: str) -> InstitutionRow:
    row = await repository.find_tenant(session, institution_id)
    if row is None:
        raise NotFoundError
    return row


async def _own(session: AsyncSession, caller: Principal) -> InstitutionRow:
    row = await repository.find_institution(session, caller.institution_id)
    if row is None:
        raise NotFoundError
    return row


async def _changed(
    session: AsyncSession,
    row: InstitutionRow,
    caller: Principal,
    happened: Sequence[tuple[Action, Mapping[str, str]]],
    *,
    now_ms: int,
) -> None:
    """Write changes down, record them, and tell every service what it has to know; in this order, as everywhere."""
    await session.flush()
    for action, details in happened:
        event = Event(action, actor_of(caller), "institution", row.institution_id, dict(details))
        await record(session, row.as_contract(), event, now_ms=now_ms)
    if any(details != ONLY_THE_NAME for _, details in happened):
        await note_change(session, Subject.INSTITUTION, row.institution_id)
