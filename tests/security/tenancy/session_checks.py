"""user_service: nobody sees, renews or ends a session of another institution."""

from functools import partial

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant
from tests.security.tenancy.user_rows import LATER_MS, a_session, a_user
from tests.security.tenancy.worlds import B, each_of_a_tenant
from user_service.sessions import refresh_tokens_repository as refresh_tokens
from user_service.sessions import repository as sessions
from user_service.sessions.tables import RefreshTokenRow, SessionRow

MINE = B.institution_id


async def open_sessions(session: AsyncSession) -> None:
    page = partial(sessions.open_sessions, before=None, limit=9, now_ms=1)

    (found,) = await page(session, MINE, "usr_ins_b")

    assert found.session_id == "ses_ins_b"
    assert list(await page(session, MINE, "usr_ins_a")) == []


async def a_session_that_goes_on(session: AsyncSession) -> None:
    theirs = a_session("ses_ins_a", user_id="usr_ins_a")

    assert not await refresh_tokens.go_on_with(session, MINE, theirs, now_ms=3)


async def the_end_of_sessions(session: AsyncSession) -> None:
    forged = a_user("usr_ins_a", of=MINE)
    for only, keep in ((None, None), ("ses_ins_a", None), (None, "ses_ins_b")):
        assert await sessions.end_sessions(session, forged, only=only, keep=keep, now_ms=3) == []

    assert await _ended(session) == [None, None]


async def whose_sessions_wait_for_one_another(session: AsyncSession) -> None:
    async with each_of_a_tenant(session):
        await sessions.end_sessions(session, a_user("usr_ins_b", of=MINE), only=None, keep=None, now_ms=3)


async def what_is_forgotten(session: AsyncSession) -> None:
    await sessions.forget_expired(session, a_user("usr_ins_a", of=MINE), now_ms=LATER_MS)

    left = of_every_tenant(select(RefreshTokenRow.digest), "the test")
    assert sorted(await session.scalars(left)) == ["ins_a", "ins_b"]
    assert await _ended(session) == [None, None]


async def _ended(session: AsyncSession) -> list[int | None]:
    query = of_every_tenant(select(SessionRow.ended_at_ms), "the test")
    return list(await session.scalars(query))


CHECKS = (
    open_sessions,
    a_session_that_goes_on,
    the_end_of_sessions,
    whose_sessions_wait_for_one_another,
    what_is_forgotten,
)
