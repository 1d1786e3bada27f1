"""The statements on requests that need a second person, and on who that may be."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Approval, Decision
from common.contracts.institutions import InstitutionMode
from common.four_eyes import ApprovalState
from common.tenancy import of_every_tenant, of_tenant
from user_service.approvals.actions import ApprovalAction
from user_service.approvals.tables import approvals, table
from user_service.institutions.tables import InstitutionRow
from user_service.users.roles import PLATFORM_INSTITUTION_ID, Role, leading_role
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
    query = select(UserRow.user_id).where(
        UserRow.role == leading_role(institution_id).value,
        UserRow.disabled_at_ms.is_(None),
        UserRow.password_hash != "",
    )
    return frozenset(await session.scalars(of_tenant(institution_id, query)))


async def led_since(session: AsyncSession, institution_id: str, since_ms: int) -> frozenset[str]:
    """Return who ran an institution after that time and was lowered or disabled."""
    query = select(UserRow.user_id).where(UserRow.led_until_ms > since_ms, UserRow.password_hash != "")
    return frozenset(await session.scalars(of_tenant(institution_id, query)))


async def open_for_operators(
    session: AsyncSession, *, before: str | None, limit: int, now_ms: int
) -> Sequence[tuple[str, str]]:
    """Return (approval, institution) of open requests whose asker is the only admin of a live institution."""
    admins = (
        select(func.count())
        .select_from(UserRow)
        .where(
            UserRow.institution_id == table.c.institution_id,
            UserRow.role == Role.ADMIN.value,
            UserRow.disabled_at_ms.is_(None),
            UserRow.password_hash != "",
        )
        .scalar_subquery()
    )
    query = (
        select(table.c.approval_id, table.c.institution_id)
        .join(InstitutionRow, InstitutionRow.institution_id == table.c.institution_id)
        .where(
            table.c.action == ApprovalAction.GRANT_ADMIN.value,
            table.c.state == ApprovalState.PENDING.value,
            table.c.expires_at_ms > now_ms,
            InstitutionRow.mode == InstitutionMode.LIVE.value,
            InstitutionRow.institution_id != PLATFORM_INSTITUTION_ID,
            admins == 1,
        )
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


async def _run(session: AsyncSession, statement: Callable[[Connection], ResultT]) -> ResultT:
    connection = await session.connection()
    return await connection.run_sync(statement)
