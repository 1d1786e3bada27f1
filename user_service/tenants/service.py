"""Making institutions, and whom to tell about their alerts."""

from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.access import OverQuota, Tier
from common.contracts.institutions import InstitutionMode, Recipients
from common.contracts.roles import Role
from common.errors import NotFoundError
from common.ids import new_id
from user_service.access_changes.noting import Subject, note_change
from user_service.auth.session_tokens import SessionTokens
from user_service.events.recording import Action, Actor, Event, record
from user_service.institutions import repository
from user_service.institutions.tables import InstitutionRow
from user_service.origin import Origin
from user_service.tenants.schemas import Registered
from user_service.users import repository as users
from user_service.users.accounts_repository import Account
from user_service.users.email import email_key
from user_service.users.tables import UserRow

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Application:
    """What is registered: an institution and its first admin, who is only invited while `password_hash` is empty."""

    institution_name: str
    mode: InstitutionMode
    base_currency: str
    email: str
    full_name: str
    password_hash: str = field(repr=False)


@dataclass(frozen=True)
class Institutions:
    """The tenants."""

    tokens: SessionTokens
    tier: Tier

    async def make(
        self, session: AsyncSession, application: Application, origin: Origin, *, now_ms: int
    ) -> Registered:
        """Store an institution with its first admin and log them in; raises `EmailTakenError`."""
        account = await self.store(session, application, operator=None, now_ms=now_ms)
        tokens = await self.tokens.start(session, account, origin, now_ms=now_ms)
        institution_id = account.institution.institution_id
        await note_change(session, Subject.INSTITUTION, institution_id)
        return Registered(institution_id=institution_id, user_id=account.user.user_id, tokens=tokens)

    async def store(
        self, session: AsyncSession, application: Application, *, operator: Actor | None, now_ms: int
    ) -> Account:
        """Store an institution with its first admin, and record who did: an operator, or the admin for themselves.

        Whoever calls it tells every service (`note_change`) when all else is written. Raises `EmailTakenError`.
        """
        institution = _institution(application, tier=self.tier, now_ms=now_ms)
        user = _first_admin(application, institution, now_ms=now_ms)
        await repository.add_institution(session, institution)
        await users.add_user(session, user)
        registered = Event(
            Action.INSTITUTION_REGISTERED,
            operator or Actor("user", user.user_id),
            "institution",
            institution.institution_id,
            {"mode": institution.mode, "base_currency": institution.base_currency, "tier": institution.tier},
        )
        await record(session, institution.as_contract(), registered, now_ms=now_ms)
        _log.info("institution.registered", institution_id=institution.institution_id, mode=institution.mode)
        return Account(user, institution)

    async def recipients(self, session: AsyncSession, institution_id: str) -> Recipients:
        """Return the addresses of an institution's admins who have joined; raises `NotFoundError`."""
        institution = await repository.find_institution(session, institution_id)
        if institution is None:
            raise NotFoundError
        emails = await users.emails_of_admins(session, institution_id)
        return Recipients(
            institution_id=institution_id, institution_name=institution.name, emails=tuple(emails)
        )


def _institution(application: Application, *, tier: Tier, now_ms: int) -> InstitutionRow:
    return InstitutionRow(
        institution_id=new_id("ins"),
        name=application.institution_name,
        mode=application.mode.value,
        base_currency=application.base_currency,
        created_at_ms=now_ms,
        tier=tier.value,
        over_quota=OverQuota.ALLOW_AND_WARN.value,
    )


def _first_admin(application: Application, institution: InstitutionRow, *, now_ms: int) -> UserRow:
    user_id, key = new_id("usr"), email_key(application.email)
    has_joined = bool(application.password_hash)
    return UserRow(
        user_id=user_id,
        institution_id=institution.institution_id,
        email=application.email,
        email_key=key,
        login_key=key if has_joined else user_id,
        full_name=application.full_name,
        role=Role.ADMIN.value,
        password_hash=application.password_hash,
        created_at_ms=now_ms,
        last_login_at_ms=now_ms if has_joined else None,
    )
