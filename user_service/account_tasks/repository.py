"""The statements on tasks about accounts."""

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.ids import new_id
from common.logging import request_id
from user_service.account_tasks.tables import AccountTaskRow, TaskKind


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done about whom or what, and which request caused it; `failures` says how often it was tried in vain."""

    task_id: str
    kind: TaskKind
    user_id: str | None
    details: str
    request_id: str
    registration_id: str | None
    failures: int


async def add_task(
    session: AsyncSession,
    kind: TaskKind,
    *,
    user_id: str | None = None,
    registration_id: str | None = None,
    details: str = "",
    now_ms: int,
) -> None:
    """Write a task of the running request down, in the running transaction."""
    row = AccountTaskRow(
        task_id=new_id("tsk"),
        kind=kind.value,
        user_id=user_id,
        details=details,
        request_id=request_id(),
        registration_id=registration_id,
        asked_at_ms=now_ms,
        failures=0,
        due_at_ms=now_ms,
    )
    session.add(row)
    await session.flush()


async def take_task(session: AsyncSession, *, now_ms: int) -> Task | None:
    """Take the oldest task that is due away; a rollback brings it back. Two workers never take the same."""
    oldest = (
        select(AccountTaskRow.task_id)
        .where(AccountTaskRow.due_at_ms <= now_ms)
        .order_by(AccountTaskRow.asked_at_ms, AccountTaskRow.task_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    task_id = await session.scalar(oldest)
    if task_id is None:
        return None
    taken = await session.execute(
        delete(AccountTaskRow)
        .where(AccountTaskRow.task_id == task_id)
        .returning(
            AccountTaskRow.kind,
            AccountTaskRow.user_id,
            AccountTaskRow.details,
            AccountTaskRow.request_id,
            AccountTaskRow.registration_id,
            AccountTaskRow.failures,
        )
        .execution_options(synchronize_session=False)
    )
    found = taken.one_or_none()
    if found is None:
        return None
    kind, user_id, details, caused_by, registration_id, failures = found
    return Task(task_id, TaskKind(kind), user_id, details, caused_by, registration_id, failures)


async def put_off(session: AsyncSession, task: Task, *, due_at_ms: int) -> None:
    """Let a task that failed once more wait until then."""
    waiting = (
        update(AccountTaskRow)
        .where(AccountTaskRow.task_id == task.task_id)
        .values(failures=task.failures + 1, due_at_ms=due_at_ms)
        .execution_options(synchronize_session=False)
    )
    await session.execute(waiting)


async def drop_task(session: AsyncSession, task: Task) -> None:
    """Delete a task that is not tried any more."""
    dropping = delete(AccountTaskRow).where(AccountTaskRow.task_id == task.task_id)
    await session.execute(dropping.execution_options(synchronize_session=False))
