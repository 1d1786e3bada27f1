"""The statements on how many mails of a kind were asked for."""

from dataclasses import dataclass

from sqlalchemy import case, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from user_service.notices.tables import MailCountRow
from user_service.statements import insert_or


@dataclass(frozen=True, slots=True)
class MailCount:
    """How many mails there were, with the one that was just counted, and when the first was."""

    mails: int
    first_at_ms: int


async def count_mail(
    session: AsyncSession, purpose: str, *, whom: str, since_ms: int, now_ms: int
) -> MailCount:
    """Count one more mail; a count that began by `since_ms` begins anew.

    Until the commit, others who count such mails for `whom` wait.
    """
    is_old = MailCountRow.first_at_ms <= since_ms
    counted = (
        insert_or(session, MailCountRow)
        .values(purpose=purpose, whom=whom, mails=1, first_at_ms=now_ms)
        .on_conflict_do_update(
            index_elements=["purpose", "whom"],
            set_={
                "mails": case((is_old, 1), else_=MailCountRow.mails + 1),
                "first_at_ms": case((is_old, now_ms), else_=MailCountRow.first_at_ms),
            },
        )
        .returning(MailCountRow.mails, MailCountRow.first_at_ms)
    )
    return MailCount(*(await session.execute(counted)).one())


async def forget_old_counts(session: AsyncSession, *, before_ms: int) -> None:
    """Forget counts that began by then, but for those that somebody holds: they begin anew by themselves."""
    key = (MailCountRow.purpose, MailCountRow.whom)
    old = select(*key).where(MailCountRow.first_at_ms <= before_ms).with_for_update(skip_locked=True)
    forgetting = delete(MailCountRow).where(tuple_(*key).in_(old))
    await session.execute(forgetting.execution_options(synchronize_session=False))
