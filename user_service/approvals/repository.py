"""The statements on requests that need a second person, and on who that may be."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval, Decision
from common.contracts.institutions import InstitutionMode
from common.contracts.roles import Role
from common.four_eyes import ApprovalState
from common.tenancy import of_every_tenant, of_tenant
from user_service.approvals.actions import OPERATORS_HELP_WITH
from user_service.approvals.tables import approvals, table
from user_service.institutions.tables import PLATFORM_INSTITUTION_ID, InstitutionRow
from user_service.users.repository import can_log_in
from user_service.users.roles import leading_role
from user_service.users.tables import UserRow

_OPERATORS = "operators decide where an institution has nobody else"
ResultT = TypeVar("ResultT")


async def add(session: AsyncSession, approval: Approval) -> None:
    """Store a new request."""
    await _run(session, lambda c: approvals.add(c, approval))


async def find(session: AsyncSession, approval_id: str, *, institution_id: str) -> Approval | None:
    """Return one request of an institution."""
    return await _run(session, lambda c: approvals.find(c, approval_id, institution_id=institution_id))


async def is_waiting(session: AsyncSession, approval: Approval) -> bool:
    """Say whether exactly this was asked for and is open."""
    return await _run(session, lambda c: approvals.find_same(c, approval))


async def close(session: AsyncSession, approval: Approval, decision: Decision) -> bool:
    """Store a decision; False when there is one already."""
    return await _run(
        session,
        lambda c: approvals.close(c, approval.approval_id, decision, institution_id=approval.institution_id),
    )


async def forget(session: AsyncSession, *, before_ms: int) -> int:
    """Delete requests that were over before then; the archive keeps what was asked for, decided and done."""
    return await _run(session, lambda c: approvals.forget(c, before_ms=before_ms))


async def page(
    session: AsyncSession,
    *,
    institution_id: str,
    state: ApprovalState | None,
    before: str | None,
    limit: int,
    now_ms: int,
) -> Sequence[Approval]:
    """Return requests of an institution, newest first."""
    return await _run(
        session,
        lambda c: approvals.page(
            c, institution_id=institution_id, state=state, before=before, limit=limit, now_ms=now_ms
        ),
    )


async def leading_people(session: AsyncSession, institution_id: str) -> frozenset[str]:
    """Return who runs an institution: its admins, the platform's operators; enabled ones who have joined."""
    query = select(UserRow.user_id).where(can_log_in(leading_role(institution_id)))
    return frozenset(await session.scalars(of_tenant(institution_id, query)))


async def led_since(session: AsyncSession, institution_id: str, since_ms: int) -> frozenset[str]:
    """Return who ran an institution after that time and was lowered or disabled."""
    query = select(UserRow.user_id).where(UserRow.led_until_ms > since_ms, UserRow.password_hash != "")
    return frozenset(await session.scalars(of_tenant(institution_id, query)))


async def has_no_second_person(session: AsyncSession, institution_id: str) -> bool:
    """Say whether a live institution has one admin: then an operator is the second person."""
    query = of_tenant(institution_id, _without_second_person())
    return await session.scalar(query) is not None


async def open_for_operators(
    session: AsyncSession, *, before: str | None, limit: int, now_ms: int
) -> Sequence[tuple[str, str]]:
    """Return (approval, institution) of open requests whose second person is an operator."""
    query = select(table.c.approval_id, table.c.institution_id).where(
        table.c.action.in_(OPERATORS_HELP_WITH),
        table.c.state == ApprovalState.PENDING.value,
        table.c.expires_at_ms > now_ms,
        table.c.institution_id.in_(_without_second_person()),
    )
    if before is not None:
        query = query.where(table.c.approval_id < before)
    query = query.order_by(table.c.approval_id.desc()).limit(limit)
    rows = await session.execute(of_every_tenant(query, _OPERATORS))
    return [(row.approval_id, row.institution_id) for row in rows]


async def institution_of(session: AsyncSession, approval_id: str) -> str | None:
    """Return whose request this is."""
    query = select(table.c.institution_id).where(table.c.approval_id == approval_id)
    found: str | None = await session.scalar(of_every_tenant(query, _OPERATORS))
    return found


def _without_second_person() -> Select[str]:
    """Select the live tenants that have one admin."""
    return (
        select(InstitutionRow.institution_id)
        .join(UserRow, UserRow.institution_id == InstitutionRow.institution_id)
        .where(
            InstitutionRow.mode == InstitutionMode.LIVE.value,
            InstitutionRow.institution_id != PLATFORM_INSTITUTION_ID,
            can_log_in(Role.ADMIN),
        )
        .group_by(InstitutionRow.institution_id)
        .having(func.count() == 1)
    )


async def _run(session: AsyncSession, statement: Callable[[Connection], ResultT]) -> ResultT:
    connection = await session.connection()
    return await connection.run_sync(statement)
