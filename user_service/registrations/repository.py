"""The statements on registrations that wait."""

from dataclasses import dataclass

from sqlalchemy import Row, case, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from common.contracts.institutions import InstitutionMode
from common.ids import new_id
from user_service.registrations.tables import RegistrationRow
from user_service.tenants.service import Application
from user_service.users.email import email_key

_COLUMNS = (
    RegistrationRow.institution_name,
    RegistrationRow.mode,
    RegistrationRow.base_currency,
    RegistrationRow.email,
    RegistrationRow.full_name,
    RegistrationRow.password_hash,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whom to mail about a registration, and until when it can be confirmed."""

    email: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registration that a mailed token may confirm, and the hash of its password."""

    registration_id: str
    password_hash: str


async def count_waiting(session: AsyncSession, *, now_ms: int) -> int:
    """Return how many registrations can still be confirmed."""
    query = select(func.count()).where(RegistrationRow.expires_at_ms > now_ms)
    return int(await session.scalar(query) or 0)


async def add(session: AsyncSession, application: Application, *, now_ms: int, life_ms: int) -> str:
    """Store a registration and return its id."""
    row = RegistrationRow(
        registration_id=new_id("reg"),
        institution_name=application.institution_name,
        mode=application.mode.value,
        base_currency=application.base_currency,
        email=application.email,
        email_key=email_key(application.email),
        full_name=application.full_name,
        password_hash=application.password_hash,
        created_at_ms=now_ms,
        expires_at_ms=now_ms + life_ms,
    )
    session.add(row)
    await session.flush()
    return row.registration_id


async def find(session: AsyncSession, registration_id: str) -> Waiting | None:
    """Return whom to mail about a registration."""
    query = select(RegistrationRow.email, RegistrationRow.expires_at_ms).where(
        RegistrationRow.registration_id == registration_id
    )
    found = (await session.execute(query)).one_or_none()
    return None if found is None else Waiting(*found)


async def find_candidates(
    session: AsyncSession, registration_id: str, *, most_others: int, now_ms: int
) -> list[Candidate]:
    """Return a registration that waits, then the newest others of its address; none when it has expired or was taken."""
    shown = aliased(RegistrationRow)
    is_another = case((RegistrationRow.registration_id == registration_id, 0), else_=1)
    query = (
        select(RegistrationRow.registration_id, RegistrationRow.password_hash)
        .join(shown, shown.email_key == RegistrationRow.email_key)
        .where(
            shown.registration_id == registration_id,
            shown.expires_at_ms > now_ms,
            RegistrationRow.expires_at_ms > now_ms,
        )
        .order_by(is_another, RegistrationRow.created_at_ms.desc(), RegistrationRow.registration_id.desc())
        .limit(1 + most_others)
    )
    return [Candidate(*found) for found in (await session.execute(query)).all()]


async def take(session: AsyncSession, registration_id: str, *, now_ms: int) -> Application | None:
    """Take a registration that has not expired away; of those who do it at once one gets it. A rollback brings it back."""
    taking = (
        delete(RegistrationRow)
        .where(RegistrationRow.registration_id == registration_id, RegistrationRow.expires_at_ms > now_ms)
        .returning(*_COLUMNS)
        .execution_options(synchronize_session=False)
    )
    taken = (await session.execute(taking)).one_or_none()
    return None if taken is None else _application(taken)


async def forget_expired(session: AsyncSession, *, now_ms: int) -> None:
    """Delete registrations that were not confirmed in time."""
    expired = delete(RegistrationRow).where(RegistrationRow.expires_at_ms <= now_ms)
    await session.execute(expired.execution_options(synchronize_session=False))


def _application(row: Row[str, str, str, str, str, str]) -> Application:
    name, mode, base_currency, email, full_name, password_hash = row
    return Application(name, InstitutionMode(mode), base_currency, email, full_name, password_hash)
