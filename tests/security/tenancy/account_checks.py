"""user_service: nobody reads or changes a person, or what lets them in, of another institution."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.roles import Role
from common.tenancy import of_every_tenant
from tests.security.tenancy.user_rows import RESET, a_user, an_invitation
from tests.security.tenancy.worlds import B, each_of_a_tenant
from user_service.institutions import repository as institutions
from user_service.mailed_tokens import repository as mailed_tokens
from user_service.mailed_tokens.tables import MailedTokenRow
from user_service.members import repository as members
from user_service.operators import repository as operators
from user_service.second_factors import repository as second_factors
from user_service.second_factors.tables import RecoveryCodeRow
from user_service.users import accounts_repository as auth
from user_service.users import repository as users

MINE = B.institution_id


async def one_user(session: AsyncSession) -> None:
    for find in (users.find_user, members.find_member):
        assert await find(session, "usr_ins_b", institution_id=MINE) is not None
        assert await find(session, "usr_ins_a", institution_id=MINE) is None


async def who_has_an_address(session: AsyncSession) -> None:
    for name in ("usr_ins_b", "new_ins_b"):
        assert await users.find_by_email(session, MINE, email_key=f"{name}@bank.example") is not None
    assert await users.find_by_email(session, MINE, email_key="usr_ins_a@bank.example") is None


async def who_is_still_invited(session: AsyncSession) -> None:
    for name in ("ins_a", "ins_b"):
        session.add(an_invitation(name))
    await session.flush()

    for name, expected in (("new_ins_b", True), ("new_ins_a", False)):
        assert await members.is_still_invited(session, name, institution_id=MINE, now_ms=3) is expected


async def somebody_whose_invitation_expired(session: AsyncSession) -> None:
    session.add(an_invitation("ins_a"))
    await session.flush()

    assert not await members.remove_invited(session, "new_ins_a", institution_id=MINE)

    left = select(MailedTokenRow.token_id).where(MailedTokenRow.user_id == "new_ins_a")
    assert len(list(await session.scalars(of_every_tenant(left, "the test")))) == 1


async def pages_of_people(session: AsyncSession) -> None:
    rows = await members.read_members(session, MINE, after=None, limit=9)

    assert {row.user_id for row in rows} == {"usr_ins_b", "new_ins_b"}


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
        await institutions.hold_institution(session, MINE)


async def keeping_a_user(session: AsyncSession) -> None:
    async with each_of_a_tenant(session):
        assert await users.keep_user(session, "usr_ins_b", institution_id=MINE) is not None
        assert await users.keep_user(session, "usr_ins_a", institution_id=MINE) is None


async def somebody_who_joins(session: AsyncSession) -> None:
    forged = a_user("new_ins_a", of=MINE, joined=False)

    assert not await members.join(session, forged, password_hash="x", full_name="x", now_ms=3)


async def a_new_password(session: AsyncSession) -> None:
    assert not await users.replace_password(session, a_user("usr_ins_a", of=MINE), new_hash="x")


async def a_login(session: AsyncSession) -> None:
    assert not await auth.note_login(session, a_user("usr_ins_a", of=MINE), new_hash=None, now_ms=3)


async def a_mailed_token(session: AsyncSession) -> None:
    assert not await mailed_tokens.use_mailed_token(session, MINE, "mtk_ins_a", now_ms=3)


async def mailed_tokens_that_are_spent(session: AsyncSession) -> None:
    await mailed_tokens.spend_mailed_tokens(session, a_user("usr_ins_a", of=MINE), RESET, now_ms=3)

    used = of_every_tenant(select(MailedTokenRow.used_at_ms), "the test")
    assert set(await session.scalars(used)) == {None}


async def mailed_tokens_that_are_counted(session: AsyncSession) -> None:
    forged = a_user("usr_ins_a", of=MINE)

    assert (await mailed_tokens.mailed_tokens_of(session, forged, RESET, since_ms=0)).count == 0
    assert (await mailed_tokens.mailed_tokens_in(session, MINE, RESET, since_ms=0)).count == 1


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


async def people_by_their_ids(session: AsyncSession) -> None:
    (found,) = await users.find_people(session, MINE, ["usr_ins_a", "usr_ins_b"])

    assert found.user_id == "usr_ins_b"


CHECKS = (
    keeping_a_user,
    people_by_their_ids,
    one_user,
    who_has_an_address,
    who_is_still_invited,
    somebody_whose_invitation_expired,
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
