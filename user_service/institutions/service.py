"""Registering institutions, and whom to tell about their alerts."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.contracts.access import OverQuota, Tier
from common.contracts.institutions import Recipients
from common.errors import NotFoundError
from common.ids import new_id
from user_service.access.repository import Subject, note_change
from user_service.auth.passwords import Passwords
from user_service.auth.repository import Account
from user_service.auth.session_tokens import SessionTokens
from user_service.events.recording import Action, Actor, Event, record
from user_service.institutions import repository
from user_service.institutions.schemas import FirstAdmin, Registered, Registration
from user_service.institutions.tables import InstitutionRow
from user_service.sessions.origin import Origin
from user_service.users import repository as users
from user_service.users.email import email_key
from user_service.users.roles import Role
from user_service.users.service import refuse_weak
from user_service.users.tables import UserRow

_log = structlog.get_logger()


@dataclass(frozen=True)
class Institutions:
    """The tenants."""

    passwords: Passwords
    tokens: SessionTokens
    tier: Tier

    async def register(
        self, session: AsyncSession, registration: Registration, origin: Origin, *, now_ms: int
    ) -> Registered:
        """Store an institution with its first admin and log them in.

        Raises `WeakPasswordError` and `EmailTakenError`.
        """
        admin = registration.admin
        password = admin.password.get_secret_value()
        refuse_weak(password, email=admin.email)
        password_hash = await self.passwords.hash(password)
        institution = _institution(registration, tier=self.tier, now_ms=now_ms)
        user = _first_admin(admin, institution, password_hash=password_hash, now_ms=now_ms)
        await repository.add_institution(session, institution)
        await users.add_user(session, user)
        registered = Event(
            Action.INSTITUTION_REGISTERED,
            Actor("user", user.user_id),
            "institution",
            institution.institution_id,
            {"mode": institution.mode, "base_currency": institution.base_currency, "tier": institution.tier},
        )
        await record(session, institution.as_contract(), registered, now_ms=now_ms)
        tokens = await self.tokens.start(session, Account(user, institution), origin, now_ms=now_ms)
        await note_change(session, Subject.INSTITUTION, institution.institution_id)
        _log.info("institution.registered", institution_id=institution.institution_id, mode=institution.mode)
        return Registered(institution_id=institution.institution_id, user_id=user.user_id, tokens=tokens)

    async def recipients(self, session: AsyncSession, institution_id: str) -> Recipients:
        """Return the addresses of an institution's admins who have joined; raises `NotFoundError`."""
        institution = await repository.find_institution(session, institution_id)
        if institution is None:
            raise NotFoundError
        emails = await users.emails_of_admins(session, institution_id)
        return Recipients(
            institution_id=institution_id, institution_name=institution.name, emails=tuple(emails)
        )


def _institution(registration: Registration, *, tier: Tier, now_ms: int) -> InstitutionRow:
    return InstitutionRow(
        institution_id=new_id("ins"),
        name=registration.name,
        mode=registration.mode.value,
        base_currency=registration.base_currency,
        created_at_ms=now_ms,
        tier=tier.value,
        over_quota=OverQuota.ALLOW_AND_WARN.value,
    )


def _first_admin(
    admin: FirstAdmin, institution: InstitutionRow, *, password_hash: str, now_ms: int
) -> UserRow:
    return UserRow(
        user_id=new_id("usr"),
        institution_id=institution.institution_id,
        email=admin.email,
        email_key=email_key(admin.email),
        full_name=admin.full_name,
        role=Role.ADMIN.value,
        password_hash=password_hash,
        created_at_ms=now_ms,
        last_login_at_ms=now_ms,
    )
