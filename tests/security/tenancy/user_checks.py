"""user_service: nothing about people, sessions, keys and institutions is read or changed from another institution."""

from sqlalchemy.ext.asyncio import AsyncSession

from tests.security.tenancy import account_checks, key_checks, session_checks
from tests.security.tenancy.user_rows import fill
from tests.security.tenancy.worlds import BOTH, World, in_session
from user_service.institutions import repository as institutions
from user_service.tables import MIGRATIONS


async def one_institution(session: AsyncSession) -> None:
    for institution in BOTH:
        for find in (institutions.find_institution, institutions.find_tenant):
            found = await find(session, institution.institution_id)

            assert found is not None
            assert found.institution_id == institution.institution_id


WORLD = World(
    MIGRATIONS,
    in_session(fill),
    {
        check.__name__: in_session(check)
        for check in (
            one_institution,
            *account_checks.CHECKS,
            *session_checks.CHECKS,
            *key_checks.CHECKS,
        )
    },
)
