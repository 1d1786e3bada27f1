"""The statements on tasks about accounts."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from common.ids import new_id
from user_service.account_tasks.tables import AccountTaskRow, TaskKind

BATCH = 50


async def add_task(session: AsyncSession, kind: TaskKind, *, user_id: str | None, now_ms: int) -> None:
    """Write a task down, in the running transaction."""
    session.add(AccountTaskRow(task_id=new_id("tsk"), kind=kind.value, user_id=user_id, asked_at_ms=now_ms))
    await session.flush()


async def take_tasks(session: AsyncSession) -> list[tuple[TaskKind, str | None]]:
    """Take the oldest tasks away and return them; a rollback brings them back. Two workers never take the same."""
    oldest = (
        select(AccountTaskRow.task_id)
        .order_by(AccountTaskRow.asked_at_ms, AccountTaskRow.task_id)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    task_ids = list(await session.scalars(oldest))
    if not task_ids:
        return []
    taken = await session.execute(
        delete(AccountTaskRow)
        .where(AccountTaskRow.task_id.in_(task_ids))
        .returning(AccountTaskRow.task_id, AccountTaskRow.kind, AccountTaskRow.user_id)
        .execution_options(synchronize_session=False)
    )
    return [(TaskKind(kind), user_id) for _, kind, user_id in sorted(taken, key=lambda task: task[0])]
