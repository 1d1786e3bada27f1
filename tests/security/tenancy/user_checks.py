"""user_service: nothing about people, sessions and institutions is read or changed from another institution."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from common.tenancy import of_every_tenant
from tests.security.tenancy.worlds import BOTH, B, World, in_session
from user_service.auth import repository as auth
from user_service.auth.tables import RefreshTokenRow, SessionRow
from user_service.bootstrap import MIGRATIONS
from user_service.institutions import repository as institutions
from user_service.institutions.tables import InstitutionRow
from user_service.users import repository as users
from user_service.users.tables import UserRow

LATER_MS = 10**13


async def fill(session: AsyncSession) -> None:
    for institution in BOTH:
        name = institution.institution_id
        session.add(
            InstitutionRow(
                institution_id=name,
                name=f"Bank {name}",
                mode=institution.mode.value,
                base_currency="EUR",
                created_at_ms=1,
                tier="starter",
                over_quota="allow_and_warn",
            )
        )
        await session.flush()
        session.add(_user(f"usr_{name}", of=name))
        await session.flush()
        session.add(
            SessionRow(
                session_id=f"ses_{name}",
                user_id=f"usr_{name}",
                created_at_ms=1,
                expires_at_ms=2,
                last_used_at_ms=1,
                access_expires_at_ms=2,
                ip_address="",
                user_agent="",
            )
        )
        await session.flush()
        session.add(
            RefreshTokenRow(
                digest=name,
                session_id=f"ses_{name}",
                access_token_id=f"tok_{name}",
                created_at_ms=1,
                expires_at_ms=2,
            )
        )


async def one_institution(session: AsyncSession) -> None:
    for institution in BOTH:
        found = await institutions.find_institution(session, institution.institution_id)

        assert found is not None
        assert found.institution_id == institution.institution_id


async def one_user(session: AsyncSession) -> None:
    assert await users.find_user(session, "usr_ins_b", institution_id=B.institution_id) is not None
    assert await users.find_user(session, "usr_ins_a", institution_id=B.institution_id) is None


async def whom_to_mail(session: AsyncSession) -> None:
    assert await users.emails_of_admins(session, B.institution_id) == ["usr_ins_b@bank.example"]


async def a_new_password(session: AsyncSession) -> None:
    assert not await users.replace_password(session, _user("usr_ins_a", of=B.institution_id), new_hash="x")


async def a_login(session: AsyncSession) -> None:
    forged = _user("usr_ins_a", of=B.institution_id)

    assert not await auth.note_login(session, forged, new_hash=None, now_ms=3)


async def the_session_of_a_token(session: AsyncSession) -> None:
    assert await auth.session_of(session, B.institution_id, access_token_id="tok_ins_b") == "ses_ins_b"
    assert await auth.session_of(session, B.institution_id, access_token_id="tok_ins_a") is None


async def the_end_of_a_session(session: AsyncSession) -> None:
    await auth.end_session(session, B.institution_id, "ses_ins_a", now_ms=3)

    assert await _ended(session) == [None, None]


async def the_end_of_all_sessions(session: AsyncSession) -> None:
    await auth.end_other_sessions(session, B.institution_id, "usr_ins_a", keep=None, now_ms=3)

    assert await _ended(session) == [None, None]


async def what_is_forgotten(session: AsyncSession) -> None:
    await auth.forget_expired(session, _user("usr_ins_a", of=B.institution_id), now_ms=LATER_MS)

    left = of_every_tenant(select(RefreshTokenRow.digest), "the test")
    assert sorted(await session.scalars(left)) == ["ins_a", "ins_b"]
    assert await _ended(session) == [None, None]


def _user(user_id: str, *, of: str) -> UserRow:
    return UserRow(
        user_id=user_id,
        institution_id=of,
        email=f"{user_id}@bank.example",
        email_key=f"{user_id}@bank.example",
        full_name="A person",
        role="admin",
        password_hash="hash",
        created_at_ms=1,
    )


async def _ended(session: AsyncSession) -> list[int | None]:
    query = of_every_tenant(select(SessionRow.ended_at_ms), "the test")
    return list(await session.scalars(query))


WORLD = World(
    MIGRATIONS,
    in_session(fill),
    {
        check.__name__: in_session(check)
        for check in (
            one_institution,
            one_user,
            whom_to_mail,
            a_new_password,
            a_login,
            the_session_of_a_token,
            the_end_of_a_session,
            the_end_of_all_sessions,
            what_is_forgotten,
        )
    },
)
