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
from user_service.approvals import repository as approvals
from user_service.attempts.locks import Lock
from user_service.attempts.service import forget_old
from user_service.events.recording import ANONYMOUS, Action, Event, record
from user_service.mailed_tokens.repository import forget_old_mailed_tokens
from user_service.members.expiry import remove_expired
from user_service.members.repository import expired_invitations
from user_service.notices.mail_counts_repository import forget_old_counts
from user_service.notices.queue import Letter, about_institution, queue_notice
from user_service.password_resets.service import mail_reset
from user_service.registrations.mailing import mail_registration
from user_service.registrations.repository import forget_expired
from user_service.times import DAY_MS, to_time
from user_service.users.accounts_repository import Account, find_by_id

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
    keep_approvals_ms: int

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
        """Forget what counts no more, what was not confirmed or accepted in time, and tokens that expired a day ago."""
        async with self.database.sessions.begin() as session:
            await forget_old(session, now_ms=now_ms)
            await forget_old_mailed_tokens(session, before_ms=now_ms - DAY_MS)
            await approvals.forget(session, before_ms=now_ms - self.keep_approvals_ms)
            await forget_old_counts(session, before_ms=now_ms - DAY_MS)
            await forget_expired(session, now_ms=now_ms)
        while await self._remove_invited(now_ms=now_ms):
            pass

    async def _remove_invited(self, *, now_ms: int) -> int:
        """Remove some whose invitation has expired, each in a transaction of its own; return how many were removed."""
        async with self.database.sessions() as session:
            found = await expired_invitations(session, now_ms=now_ms, limit=BATCH)
        removed = 0
        for user_id, institution_id in found:
            async with self.database.sessions.begin() as session:
                removed += await remove_expired(
                    session, user_id, institution_id=institution_id, now_ms=now_ms
                )
        if removed:
            _log.info("invitations.expired", removed=removed)
        return removed


async def _do(session: AsyncSession, task: Task, *, now_ms: int) -> None:
    if task.registration_id is not None:
        await mail_registration(session, task.registration_id, now_ms=now_ms)
        return
    account = None if task.user_id is None else await find_by_id(session, task.user_id)
    if account is not None and _takes_part(account):
        await _HANDLERS[task.kind](session, account, task, now_ms=now_ms)


def _takes_part(account: Account) -> bool:
    """Say whether somebody has joined and is not disabled; nobody else is told anything."""
    return bool(account.user.password_hash) and account.user.disabled_at_ms is None


async def _tell_locked(session: AsyncSession, account: Account, task: Task, *, now_ms: int) -> None:
    user, institution = account.user, account.institution
    lock = Lock.from_text(task.details)
    letter = Letter(
        NoticeKind.ACCOUNT_LOCKED,
        institution.institution_id,
        recipients=(user.email,),
        facts={**about_institution(institution), **lock.facts()},
    )
    await queue_notice(session, letter, now_ms=now_ms)
    locked = Event(
        Action.ACCOUNT_LOCKED,
        ANONYMOUS,
        "user",
        user.user_id,
        {
            "locked_until": to_time(lock.locked_until_ms).isoformat(),
            "failures": lock.failures,
            "at_known_address": lock.at_known_address,
            "password_was_right": lock.password_was_right,
        },
        request_id=task.request_id,
    )
    await record(session, institution.as_contract(), locked, now_ms=now_ms)


_HANDLERS: Mapping[TaskKind, Callable[..., Awaitable[None]]] = {
    TaskKind.RESET: mail_reset,
    TaskKind.LOCKED: _tell_locked,
}
