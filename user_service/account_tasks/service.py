"""Does what was asked for about accounts, a moment after the answer, and forgets what is old."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Never

from sqlalchemy.ext.asyncio import AsyncSession

from common.clock import epoch_ms
from common.contracts.notices import NoticeKind
from common.db import Database
from user_service.account_tasks.repository import take_tasks
from user_service.account_tasks.tables import TaskKind
from user_service.attempts.repository import forget_old_tallies
from user_service.auth.mailed_tokens import DAY_MS
from user_service.auth.repository import Account, find_by_id, forget_old_mailed_tokens
from user_service.events.recording import ANONYMOUS, Action, Event, record
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.password_resets.service import mail_reset

POLL_S = 0.25
FORGET_EVERY_S = 600.0


@dataclass(frozen=True)
class AccountTasks:
    """The work of one process; several may do it over one database."""

    database: Database

    async def work(self) -> Never:
        """Do what is asked for as it comes."""
        while True:
            if not await self.do_some(now_ms=epoch_ms()):
                await asyncio.sleep(POLL_S)

    async def do_some(self, *, now_ms: int) -> int:
        """Do the oldest tasks, all or none of them, and return how many."""
        async with self.database.sessions() as session:
            taken = await take_tasks(session)
            for kind, user_id in taken:
                account = None if user_id is None else await find_by_id(session, user_id)
                if account is not None and _takes_part(account):
                    await _HANDLERS[kind](session, account, now_ms=now_ms)
            if taken:
                await session.commit()
        return len(taken)

    async def forget(self) -> Never:
        """Forget what is old, once in a while."""
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            await self.forget_old(now_ms=epoch_ms())

    async def forget_old(self, *, now_ms: int) -> None:
        """Forget attempts that count no more, and mailed tokens that expired a day ago."""
        async with self.database.sessions.begin() as session:
            await forget_old_tallies(session, now_ms=now_ms)
            await forget_old_mailed_tokens(session, before_ms=now_ms - DAY_MS)


def _takes_part(account: Account) -> bool:
    """Say whether somebody has joined and is not disabled; nobody else is told anything."""
    return bool(account.user.password_hash) and account.user.disabled_at_ms is None


async def _tell_locked(session: AsyncSession, account: Account, *, now_ms: int) -> None:
    user, institution = account.user, account.institution
    letter = Letter(
        NoticeKind.ACCOUNT_LOCKED,
        institution.institution_id,
        recipients=(user.email,),
        facts=about_institution(institution),
    )
    await queue_notice(session, letter, now_ms=now_ms)
    locked = Event(Action.ACCOUNT_LOCKED, ANONYMOUS, "user", user.user_id)
    await record(session, institution.as_contract(), locked, now_ms=now_ms)


_HANDLERS: Mapping[TaskKind, Callable[..., Awaitable[None]]] = {
    TaskKind.RESET: mail_reset,
    TaskKind.LOCKED: _tell_locked,
}
