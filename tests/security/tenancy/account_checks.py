"""user_service: nobody reads or changes a person, or what lets them in, of another institution."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant
from tests.security.tenancy.user_rows import RESET, a_user
from tests.security.tenancy.worlds import B, each_of_a_tenant
from user_service.auth import repository as auth
from user_service.auth.tables import MailedTokenRow, RecoveryCodeRow
from user_service.members import repository as members
from user_service.operators import repository as operators
from user_service.second_factors import repository as second_factors
from user_service.users import repository as users
from user_service.users.roles import Role

MINE = B.institution_id


async def one_user(session: AsyncSession) -> None:
    for find in (users.find_user, members.find_member):
        assert await find(session, "usr_ins_b", institution_id=MINE) is not None
        assert await find(session, "usr_ins_a", institution_id=MINE) is None


async def pages_of_people(session: AsyncSession) -> None:
    rows, total = await members.read_members(session, MINE, offset=0, limit=9)

    assert {row.user_id for row in rows} == {"usr_ins_b", "new_ins_b"}
    assert total == 2


async def who_can_still_run_an_institution(session: AsyncSession) -> None:
    assert await members.count_able(session, MINE, Role.ADMIN) == 1


async def whom_to_mail(session: AsyncSession) -> None:
    assert await users.emails_of_admins(session, MINE) == ["usr_ins_b@bank.example"]


async def operators_are_of_the_platform(session: AsyncSession) -> None:
    session.add(a_user("usr_odd", of="ins_a", role=Role.OPERATOR.value))
    await session.flush()

    assert list(await operators.operators(session)) == []


async def holding_an_institution(session: AsyncSession) -> None:
    async with each_of_a_tenant(session):
        await members.hold_institution(session, MINE)


async def somebody_who_joins(session: AsyncSession) -> None:
    forged = a_user("new_ins_a", of=MINE, joined=False)

    assert not await members.join(session, forged, password_hash="x", full_name="x", now_ms=3)


async def a_new_password(session: AsyncSession) -> None:
    assert not await users.replace_password(session, a_user("usr_ins_a", of=MINE), new_hash="x")


async def a_login(session: AsyncSession) -> None:
    assert not await auth.note_login(session, a_user("usr_ins_a", of=MINE), new_hash=None, now_ms=3)


async def a_mailed_token(session: AsyncSession) -> None:
    assert not await auth.use_mailed_token(session, MINE, "mtk_ins_a", now_ms=3)


async def mailed_tokens_that_are_spent(session: AsyncSession) -> None:
    await auth.spend_mailed_tokens(session, a_user("usr_ins_a", of=MINE), RESET, now_ms=3)

    used = of_every_tenant(select(MailedTokenRow.used_at_ms), "the test")
    assert set(await session.scalars(used)) == {None}


async def mailed_tokens_that_are_counted(session: AsyncSession) -> None:
    forged = a_user("usr_ins_a", of=MINE)

    assert (await auth.mailed_tokens_of(session, forged, RESET, since_ms=0)).count == 0
    assert (await auth.mailed_tokens_in(session, MINE, RESET, since_ms=0)).count == 1


async def a_code_of_a_second_factor(session: AsyncSession) -> None:
    assert not await second_factors.use_step(session, a_user("usr_ins_a", of=MINE), 1)


async def a_recovery_code(session: AsyncSession) -> None:
    forged = a_user("usr_ins_a", of=MINE)

    assert not await second_factors.use_recovery_code(session, forged, "code_ins_a", now_ms=3)


async def a_second_factor_that_is_begun_or_confirmed(session: AsyncSession) -> None:
    forged = a_user("usr_ins_a", of=MINE)

    assert not await second_factors.begin(session, forged, encrypted="other")
    assert not await second_factors.confirm(session, forged, step=1, now_ms=3)


async def recovery_codes_that_are_replaced(session: AsyncSession) -> None:
    await second_factors.replace_recovery_codes(session, a_user("usr_ins_a", of=MINE), [])

    left = of_every_tenant(select(RecoveryCodeRow.digest), "the test")
    assert set(await session.scalars(left)) == {"code_ins_a", "code_ins_b"}


CHECKS = (
    one_user,
    pages_of_people,
    who_can_still_run_an_institution,
    whom_to_mail,
    operators_are_of_the_platform,
    holding_an_institution,
    somebody_who_joins,
    a_new_password,
    a_login,
    a_mailed_token,
    mailed_tokens_that_are_spent,
    mailed_tokens_that_are_counted,
    a_code_of_a_second_factor,
    a_recovery_code,
    a_second_factor_that_is_begun_or_confirmed,
    recovery_codes_that_are_replaced,
)
