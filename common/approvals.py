"""Requests that need a second person, in a database: the table, for each service its own, and its statements.

`common.four_eyes` says who may do what; times are milliseconds since 1970.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from common.canonical import canonical_bytes
from common.four_eyes import ApprovalState, Question
from common.tenancy import of_every_tenant, of_tenant

_FORGETTING = "what is old is forgotten for all"


def approvals_table(metadata: MetaData, *, institutions: str | None = None) -> Table:
    """Declare the table in a service's own schema; `institutions` is the column an institution is kept in, if any."""
    institution = (ForeignKey(institutions),) if institutions else ()
    return Table(
        "approvals",
        metadata,
        Column("approval_id", String(64), primary_key=True),
        Column("institution_id", String(64), *institution, nullable=False, index=True),
        Column("action", String(64), nullable=False),
        Column("subject_id", String(64), nullable=False),
        Column("details", Text, nullable=False),
        Column("state", String(16), nullable=False),
        Column("requested_by", String(64), nullable=False),
        Column("requested_at_ms", BigInteger, nullable=False),
        Column("expires_at_ms", BigInteger, nullable=False),
        Column("decided_by", String(64)),
        Column("decided_at_ms", BigInteger),
        Column("self_approved", Boolean, nullable=False),
    )


@dataclass(frozen=True, slots=True)
class Approval:
    """One request. `details` say exactly what will be done."""

    approval_id: str
    institution_id: str
    action: str
    subject_id: str
    details: Mapping[str, str] = field(repr=False)
    requested_by: str
    requested_at_ms: int
    expires_at_ms: int
    stored_state: ApprovalState = ApprovalState.PENDING
    decided_by: str | None = None
    decided_at_ms: int | None = None
    self_approved: bool = False

    @property
    def question(self) -> Question:
        """Return what the rules look at."""
        return Question(self.requested_by, self.expires_at_ms, self.stored_state)


@dataclass(frozen=True, slots=True)
class Decision:
    """How a request was closed, by whom and when."""

    state: ApprovalState
    decided_by: str
    decided_at_ms: int
    self_approved: bool = False


class Approvals:
    """The statements on one service's table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, connection: Connection, approval: Approval) -> None:
        """Store a new request."""
        connection.execute(
            insert(self._table).values(
                approval_id=approval.approval_id,
                institution_id=approval.institution_id,
                action=approval.action,
                subject_id=approval.subject_id,
                details=_text(approval.details),
                state=approval.stored_state.value,
                requested_by=approval.requested_by,
                requested_at_ms=approval.requested_at_ms,
                expires_at_ms=approval.expires_at_ms,
                self_approved=approval.self_approved,
            )
        )

    def find(self, connection: Connection, approval_id: str, *, institution_id: str) -> Approval | None:
        """Return one request of an institution."""
        table = self._table
        query = select(table).where(table.c.approval_id == approval_id)
        row = connection.execute(of_tenant(institution_id, query)).one_or_none()
        return None if row is None else _approval(row)

    def find_same(self, connection: Connection, approval: Approval) -> bool:
        """Say whether exactly this is waiting already."""
        table = self._table
        query = select(table.c.approval_id).where(
            table.c.action == approval.action,
            table.c.details == _text(approval.details),
            self._is(ApprovalState.PENDING, approval.requested_at_ms),
        )
        return connection.execute(of_tenant(approval.institution_id, query.limit(1))).first() is not None

    def page(
        self,
        connection: Connection,
        *,
        institution_id: str,
        state: ApprovalState | None,
        before: str | None,
        limit: int,
        now_ms: int,
    ) -> Sequence[Approval]:
        """Return requests of an institution, newest first, those before the id `before`."""
        table = self._table
        query = select(table)
        if state is not None:
            query = query.where(self._is(state, now_ms))
        if before is not None:
            query = query.where(table.c.approval_id < before)
        query = query.order_by(table.c.approval_id.desc()).limit(limit)
        rows = connection.execute(of_tenant(institution_id, query))
        return [_approval(row) for row in rows]

    def close(
        self, connection: Connection, approval_id: str, decision: Decision, *, institution_id: str
    ) -> bool:
        """Store a decision; False when there is one already. Of several at the same time one is stored."""
        table = self._table
        closing = (
            update(table)
            .where(
                table.c.approval_id == approval_id,
                self._is(ApprovalState.PENDING, decision.decided_at_ms),
            )
            .values(
                state=decision.state.value,
                decided_by=decision.decided_by,
                decided_at_ms=decision.decided_at_ms,
                self_approved=decision.self_approved,
            )
        )
        return connection.execute(of_tenant(institution_id, closing)).rowcount == 1

    def forget(self, connection: Connection, *, before_ms: int) -> int:
        """Delete what was decided on, or expired undecided, before then; return how many that were."""
        table = self._table
        over_ms = func.coalesce(table.c.decided_at_ms, table.c.expires_at_ms)
        forgetting = delete(table).where(over_ms < before_ms)
        return connection.execute(of_every_tenant(forgetting, _FORGETTING)).rowcount

    def _is(self, state: ApprovalState, now_ms: int) -> ColumnElement[bool]:
        column, expires = self._table.c.state, self._table.c.expires_at_ms
        if state is ApprovalState.PENDING:
            return (column == ApprovalState.PENDING.value) & (expires > now_ms)
        if state is ApprovalState.EXPIRED:
            return (column == ApprovalState.PENDING.value) & (expires <= now_ms)
        return column == state.value


def _text(details: Mapping[str, str]) -> str:
    return canonical_bytes(dict(details)).decode()


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        approval_id=row.approval_id,
        institution_id=row.institution_id,
        action=row.action,
        subject_id=row.subject_id,
        details=json.loads(row.details),
        requested_by=row.requested_by,
        requested_at_ms=row.requested_at_ms,
        expires_at_ms=row.expires_at_ms,
        stored_state=ApprovalState(row.state),
        decided_by=row.decided_by,
        decided_at_ms=row.decided_at_ms,
        self_approved=row.self_approved,
    )
