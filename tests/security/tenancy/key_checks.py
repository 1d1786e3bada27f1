"""user_service: nobody sees, counts or ends a key of another institution, or decides about its requests."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from common.approvals import Decision
from common.contracts.institutions import InstitutionMode
from common.four_eyes import ApprovalState
from common.tenancy import of_tenant
from tests.security.tenancy.user_rows import a_key, a_user, an_approval
from tests.security.tenancy.worlds import A, B, each_of_a_tenant
from user_service.api_keys import repository as api_keys
from user_service.approvals import repository as approvals
from user_service.institutions.tables import InstitutionRow

MINE, THEIRS = B.institution_id, A.institution_id


async def one_key(session: AsyncSession) -> None:
    assert await api_keys.find_key(session, "key_ins_b", institution_id=MINE) is not None
    assert await api_keys.find_key(session, "key_ins_a", institution_id=MINE) is None


async def pages_of_keys(session: AsyncSession) -> None:
    for before in (None, "key_z"):
        (found,) = await api_keys.list_keys(session, MINE, before=before, limit=9)

        assert found.key_id == "key_ins_b"


async def how_many_keys_there_are(session: AsyncSession) -> None:
    assert await api_keys.count_keys(session, MINE, now_ms=3) == (1, 1)


async def a_key_that_ends(session: AsyncSession) -> None:
    forged = a_key("key_ins_a", of=MINE)

    assert not await api_keys.revoke_key(session, forged, now_ms=3)
    assert not await api_keys.replace_key(session, forged, by="key_ins_b", expires_at_ms=4, now_ms=3)


async def one_request(session: AsyncSession) -> None:
    assert await approvals.find(session, "apr_ins_b", institution_id=MINE) is not None
    assert await approvals.find(session, "apr_ins_a", institution_id=MINE) is None


async def a_request_that_waits(session: AsyncSession) -> None:
    assert await approvals.is_waiting(session, an_approval(THEIRS, asked_by=THEIRS))
    assert not await approvals.is_waiting(session, an_approval(MINE, asked_by=THEIRS))


async def pages_of_requests(session: AsyncSession) -> None:
    for state in (None, ApprovalState.PENDING):
        (found,) = await approvals.page(
            session, institution_id=MINE, state=state, before=None, limit=9, now_ms=3
        )

        assert found.approval_id == "apr_ins_b"


async def a_decision(session: AsyncSession) -> None:
    decision = Decision(ApprovalState.APPROVED, "usr_ins_b", 3)

    assert not await approvals.close(session, an_approval(MINE, asked_by=THEIRS), decision)


async def who_may_decide(session: AsyncSession) -> None:
    assert await approvals.leading_people(session, MINE) == {"usr_ins_b"}
    left = a_user("usr_left", of=THEIRS)
    left.led_until_ms = 2
    session.add(left)
    await session.flush()
    assert await approvals.led_since(session, THEIRS, 1) == {"usr_left"}
    assert await approvals.led_since(session, MINE, 1) == set()


async def who_has_no_second_person(session: AsyncSession) -> None:
    live = update(InstitutionRow).values(mode=InstitutionMode.LIVE.value)
    await session.execute(of_tenant(THEIRS, live))

    async with each_of_a_tenant(session):
        assert await approvals.has_no_second_person(session, THEIRS)
        assert not await approvals.has_no_second_person(session, MINE)


async def keys_of_a_maker(session: AsyncSession) -> None:
    (found,) = await api_keys.hold_keys_of(session, MINE, "settings:frontend", now_ms=3)

    assert found.key_id == "key_ins_b"


CHECKS = (
    keys_of_a_maker,
    one_key,
    pages_of_keys,
    how_many_keys_there_are,
    a_key_that_ends,
    one_request,
    a_request_that_waits,
    pages_of_requests,
    a_decision,
    who_may_decide,
    who_has_no_second_person,
)
