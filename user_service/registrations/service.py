"""Registering institutions: at once, or once the first admin has shown that the address is theirs."""

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.errors import InvalidRequestError, PlatformError
from user_service.account_tasks.repository import add_task
from user_service.account_tasks.tables import TaskKind
from user_service.attempts.policy import address_group
from user_service.auth.passwords import Passwords
from user_service.auth.weak_passwords import refuse_weak
from user_service.derived_keys import keyed_digest
from user_service.mailed_tokens.desk import MailedTokenDesk
from user_service.notices.mail_counts_repository import count_mail
from user_service.notices.mail_limits import MailPurpose, takes_one_more
from user_service.origin import Origin
from user_service.registrations import repository
from user_service.registrations.inviting import register_for_another
from user_service.registrations.schemas import Confirmation, ConfirmationAwaited
from user_service.settings import RegistrationPolicy
from user_service.tenants.schemas import AdminInvited, Registered, Registration
from user_service.tenants.service import Application, Institutions
from user_service.times import DAY_MS
from user_service.users.email import email_key

LIFE_MS = DAY_MS
MOST_WAITING = 10_000
RETRY_S = 3600
PER_CLIENT_PER_DAY = 20
MOST_OTHERS = 10  # each costs a hash
_COUNTED = "registrations_by"
_NO_PASSWORD = {"type": "missing", "loc": ("body", "admin", "password"), "msg": "Field required"}
_EITHER = "Or the password is not the one that was registered with."
_log = structlog.get_logger()


class RegistrationsFullError(PlatformError):
    """So many registrations wait for their confirmation that no other one is taken, whoever asks."""

    status_code = 503
    type = "registrations-full"
    title = "Too many registrations wait for their confirmation; try again later"


class TooManyRegistrationsError(PlatformError):
    """So many registrations came from one client address within a day that the next one has to wait, whatever it names."""

    status_code = 429
    type = "too-many-registrations"
    title = "Too many registrations came from your address; try again later"


@dataclass(frozen=True)
class Registrations:
    """New institutions."""

    policy: RegistrationPolicy
    passwords: Passwords
    desk: MailedTokenDesk
    institutions: Institutions

    async def register(
        self,
        session: AsyncSession,
        registration: Registration,
        origin: Origin,
        *,
        operator: Principal | None,
        now_ms: int,
    ) -> Registered | AdminInvited | ConfirmationAwaited:
        """Make an institution and log its admin in, or have the address confirmed first; an `operator` has them invited.

        Raises `InvalidRequestError`, `WeakPasswordError`; `EmailTakenError` where nothing is confirmed,
        `RegistrationsFullError` and `TooManyRegistrationsError` where it is; and what `register_for_another` raises.
        """
        if operator is not None:
            return await register_for_another(
                session, self.institutions, registration, operator, now_ms=now_ms
            )
        admin = registration.admin
        if admin.password is None:
            raise InvalidRequestError([_NO_PASSWORD])
        password = admin.password.get_secret_value()
        refuse_weak(password, email=admin.email, institution_name=registration.name)
        has_to_confirm = self.policy is RegistrationPolicy.VERIFIED
        if has_to_confirm and await repository.count_waiting(session, now_ms=now_ms) >= MOST_WAITING:
            raise RegistrationsFullError(retry_after_s=RETRY_S)
        application = Application(
            registration.name,
            registration.mode,
            registration.base_currency,
            admin.email,
            admin.full_name,
            await self.passwords.hash(password),
        )
        if has_to_confirm:
            await self._count_client(session, origin, now_ms=now_ms)
            return await _ask_to_confirm(session, application, now_ms=now_ms)
        return await self.institutions.make(session, application, origin, now_ms=now_ms)

    async def confirm(
        self, session: AsyncSession, confirmation: Confirmation, origin: Origin, *, now_ms: int
    ) -> Registered:
        """Make an institution that was registered with the address that a token was mailed to, and log its admin in.

        The token shows whose address it is, the password which of its registrations is meant. So strangers who register
        it use up its mails and keep nobody out, and following a mail opens no account whose password a stranger knows.

        Raises `InvalidMailedTokenError` for either, `TooManyAttemptsError`, and `EmailTakenError` when the address has
        got an account since it was mailed.
        """
        mailed_id = self.desk.read(confirmation.token.get_secret_value())
        password = confirmation.password.get_secret_value()
        chosen_id = None
        if mailed_id is not None:
            chosen_id = await self._choose(session, mailed_id, password, now_ms=now_ms)
        application = None
        if chosen_id is not None:
            application = await repository.take(session, chosen_id, now_ms=now_ms)
        if application is None:
            await self.desk.refuse(session, origin, now_ms=now_ms, detail=_EITHER)
        return await self.institutions.make(session, application, origin, now_ms=now_ms)

    async def _choose(
        self, session: AsyncSession, mailed_id: str, password: str, *, now_ms: int
    ) -> str | None:
        """Return the registration of the mailed address that has this password: the mailed one, or the newest other."""
        candidates = await repository.find_candidates(
            session, mailed_id, most_others=MOST_OTHERS, now_ms=now_ms
        )
        for candidate in candidates:
            if (await self.passwords.check(password, stored=candidate.password_hash)).correct:
                return candidate.registration_id
        return None

    async def _count_client(self, session: AsyncSession, origin: Origin, *, now_ms: int) -> None:
        """Count a registration of a client address; of the address itself only a digest is kept.

        Until the commit, others from there wait, so it comes after the hash. What is refused is not counted.
        """
        group = keyed_digest(self.desk.key, f"{_COUNTED}:{address_group(origin.ip_address)}")
        count = await count_mail(session, _COUNTED, whom=group, since_ms=now_ms - DAY_MS, now_ms=now_ms)
        if count.mails > PER_CLIENT_PER_DAY:
            wait_ms = max(1, count.first_at_ms + DAY_MS - now_ms)
            raise TooManyRegistrationsError(retry_after_s=-(-wait_ms // 1000))


async def _ask_to_confirm(
    session: AsyncSession, application: Application, *, now_ms: int
) -> ConfirmationAwaited:
    """Write the registration down, and that its address is to be mailed, unless it has had all that it gets in a day.

    Whether the address has an account is looked up later, by the task: nothing here depends on it, not even the time.
    """
    key = email_key(application.email)
    is_mailed = await takes_one_more(session, MailPurpose.REGISTRATION, email_key=key, now_ms=now_ms)
    registration_id = await repository.add(session, application, now_ms=now_ms, life_ms=LIFE_MS)
    if is_mailed:
        await add_task(session, TaskKind.REGISTRATION, registration_id=registration_id, now_ms=now_ms)
    else:
        _log.info("registration.not_mailed")
    return ConfirmationAwaited(expires_in=LIFE_MS // 1000)
