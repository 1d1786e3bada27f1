"""Keeps user_service busy beside the payments: institutions register, events are recorded and mails are asked for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import httpx
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from common.clock import epoch_ms
from common.contracts.notices import NoticeKind
from common.db import Database
from local_stack.accounts import Login, register_sandbox
from local_stack.errors import StackError
from tests.faults.stack import Caller, FaultyStack
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.institutions.repository import find_institution
from user_service.notices.queue import Letter, queue_notice

EVERY_S = 0.5
REGISTER_EVERY = 10
NOT_ANSWERED = (httpx.HTTPError, StackError, DBAPIError)


class IdentityLoad:
    """For one caller. What counts is what was answered or committed: `registered` institutions, `asked` notices.

    Events and notices are written into user_service's database as its own requests write them, whether it runs or
    not; telling them is up to the service.
    """

    def __init__(self, stack: FaultyStack, caller: Caller) -> None:
        self.registered: list[Login] = []
        self.asked: list[str] = []
        self._url = stack.stack.url("user_service")
        self._database_url = stack.sources.user_database_url
        self._login = caller.login

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Go on while the block runs."""
        database = Database(self._database_url)
        pacing = asyncio.create_task(self._pace(database))
        try:
            yield
        finally:
            pacing.cancel()
            with suppress(asyncio.CancelledError):
                await pacing  # what ended it early is raised: nothing was tested
            await database.engine.dispose()

    async def _pace(self, database: Database) -> None:
        for number in count(1):
            with suppress(*NOT_ANSWERED):
                async with database.sessions.begin() as session:
                    notice_id = await self._write(session, number)
                self.asked.append(notice_id)
            if number % REGISTER_EVERY == 0:
                with suppress(*NOT_ANSWERED):
                    self.registered.append(
                        await asyncio.to_thread(register_sandbox, self._url, name=f"Number {number}")
                    )
            await asyncio.sleep(EVERY_S)

    async def _write(self, session: AsyncSession, number: int) -> str:
        now_ms = epoch_ms()
        institution = await find_institution(session, self._login.institution_id)
        assert institution is not None
        user = Event(Action.USER_NAME_CHANGED, SYSTEM, "user", "usr_fault", {"number": number})
        letter = Letter(
            NoticeKind.SECURITY_CHANGE,
            institution.institution_id,
            recipients=[self._login.email],
            facts={"change": f"change {number}"},
            token_id=f"mtk_{number}",
        )
        await record(session, institution.as_contract(), user, now_ms=now_ms)
        return await queue_notice(session, letter, now_ms=now_ms)
