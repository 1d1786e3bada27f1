"""Does what was asked for about accounts, a moment after the answer, and forgets what is old."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Never

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.clock import epoch_ms
from common.contracts.notices import NoticeKind
from common.db import Database
from user_service.account_tasks.repository import Task, drop_task, put_off, take_task
from user_service.account_tasks.tables import TaskKind
from user_service.attempts.repository import forget_old_tallies
from user_service.auth.mailed_tokens import DAY_MS
from user_service.auth.repository import Account, find_by_id, forget_old_mailed_tokens
from user_service.events.recording import ANONYMOUS, Action, Event, record
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.password_resets.service import mail_reset

POLL_S = 0.25
BATCH = 50
FIRST_WAIT_MS = 250
MAX_TRIES = 12  # over a quarter of an hour: 250 ms, doubled each time
FORGET_EVERY_S = 600.0
_log = structlog.get_logger()


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
        """Try the oldest tasks that are due, each in a transaction of its own, and return how many there were.

        So one that fails keeps no other from being done, and none holds the numbers of two institutions.
        """
        tried = 0
        while tried < BATCH and await self._try_next(now_ms=now_ms):
            tried += 1
        return tried

    async def _try_next(self, *, now_ms: int) -> bool:
        """Try the oldest task that is due; False when there is none. What fails is tried again later."""
        task = None
        try:
            async with self.database.sessions.begin() as session:
                task = await take_task(session, now_ms=now_ms)
                if task is not None:
                    await _do(session, task, now_ms=now_ms)
        except Exception as error:
            if task is None:
                raise
            await self._failed(task, error, now_ms=now_ms)
        return task is not None

    async def _failed(self, task: Task, error: Exception, *, now_ms: int) -> None:
        gives_up = task.failures + 1 >= MAX_TRIES
        async with self.database.sessions.begin() as session:
            if gives_up:
                await drop_task(session, task)
            else:
                wait_ms = FIRST_WAIT_MS * 2**task.failures
                await put_off(session, task, due_at_ms=now_ms + wait_ms)
        _log.error(
            "account_task.given_up" if gives_up else "account_task.put_off",
            task_id=task.task_id,
            kind=task.kind.value,
            error=type(error).__name__,
        )

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


async def _do(session: AsyncSession, task: Task, *, now_ms: int) -> None:
    account = None if task.user_id is None else await find_by_id(session, task.user_id)
    if account is not None and _takes_part(account):
        await _HANDLERS[task.kind](session, account, now_ms=now_ms)


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
