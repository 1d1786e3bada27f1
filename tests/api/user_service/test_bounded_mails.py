"""However often something is done in an hour, nobody is flooded with mails about it."""

import sqlite3

import httpx
import pytest

from common.contracts.notices import NoticeKind
from common.db import Database
from tests.api.user_service.people import notices
from user_service.account_work.service import AccountTasks
from user_service.notices.queue import MAX_AN_HOUR, Letter, queue_bounded
from user_service.settings import UserSettings
from user_service.times import DAY_MS, HOUR_MS

NOON_MS = 1_795_262_400_000  # 2026-11-21T12:00:00Z
ADDRESS = "ada@harbour.example"


async def ask(
    settings: UserSettings,
    times: int,
    *,
    whom: str = "ins_a",
    kind: NoticeKind = NoticeKind.API_KEY,
    now_ms: int = NOON_MS,
) -> None:
    """Ask so often for a mail, each time in a transaction of its own."""
    letter = Letter(kind, "ins_a", recipients=(ADDRESS,), facts={"change": "created"})
    database = Database(settings.database_url)
    try:
        for number in range(times):
            async with database.sessions.begin() as session:
                await queue_bounded(session, letter, whom=whom, now_ms=now_ms + number)
    finally:
        await database.engine.dispose()


@pytest.fixture
def mails(client: httpx.AsyncClient, database: sqlite3.Connection) -> sqlite3.Connection:
    """The database of a service that was started."""
    return database


class TestAnHour:
    async def test_has_so_many_mails_and_the_last_one_says_that_others_are_left_out(
        self, settings: UserSettings, mails: sqlite3.Connection
    ) -> None:
        await ask(settings, MAX_AN_HOUR + 5)

        *first, last = [notice["facts"] for notice in notices(mails, "api_key")]
        assert len(first) == MAX_AN_HOUR - 1
        assert all(facts == {"change": "created"} for facts in first)
        assert last == {
            "change": "created",
            "more_of_these": "there were 30 within an hour; the next ones until 2026-11-21 13:00 UTC are left out",
        }

    async def test_is_followed_by_one_with_as_many(
        self, settings: UserSettings, mails: sqlite3.Connection
    ) -> None:
        await ask(settings, MAX_AN_HOUR + 5)
        await ask(settings, MAX_AN_HOUR + 5, now_ms=NOON_MS + HOUR_MS)

        assert len(notices(mails, "api_key")) == 2 * MAX_AN_HOUR

    async def test_counts_for_each_kind_and_each_addressee_alone(
        self, settings: UserSettings, mails: sqlite3.Connection
    ) -> None:
        await ask(settings, MAX_AN_HOUR + 1)
        await ask(settings, 1, whom="ins_b")
        await ask(settings, 1, kind=NoticeKind.MEMBER_CHANGED)

        assert len(notices(mails, "api_key")) == MAX_AN_HOUR + 1
        assert len(notices(mails, "member_changed")) == 1

    async def test_is_not_counted_where_nothing_was_committed(
        self, settings: UserSettings, mails: sqlite3.Connection
    ) -> None:
        letter = Letter(NoticeKind.API_KEY, "ins_a", recipients=(ADDRESS,))
        database = Database(settings.database_url)
        for _ in range(2):
            async with database.sessions() as session:
                await queue_bounded(session, letter, whom="ins_a", now_ms=NOON_MS)
                await session.rollback()
        await database.engine.dispose()
        await ask(settings, MAX_AN_HOUR)

        assert len(notices(mails, "api_key")) == MAX_AN_HOUR

    async def test_is_forgotten_a_day_later(self, settings: UserSettings, mails: sqlite3.Connection) -> None:
        await ask(settings, 2)
        await ask(settings, 1, whom="ins_b", now_ms=NOON_MS + HOUR_MS)
        database = Database(settings.database_url)

        tasks = AccountTasks(database, keep_approvals_ms=HOUR_MS)
        await tasks.forget_old(now_ms=NOON_MS + DAY_MS)

        await database.engine.dispose()
        assert mails.execute("SELECT whom FROM mail_counts").fetchall() == [("ins_b",)]
