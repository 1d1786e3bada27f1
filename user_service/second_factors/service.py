"""Adding and removing second factors."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.errors import PlatformError
from user_service.events.recording import Action, Actor, Event, actor_of, record
from user_service.notices.security_changes import SecurityChange, tell_owner
from user_service.second_factors import repository
from user_service.second_factors.codes import enrolment_uri, new_recovery_codes, new_secret
from user_service.second_factors.proofs import Proofs
from user_service.second_factors.schemas import (
    RecoveryCodes,
    SecondFactorBegun,
    SecondFactorConfirmation,
    SecondFactorRemoval,
    SecondFactorRequest,
)
from user_service.users.accounts_repository import Account
from user_service.users.acting import find_caller


class SecondFactorOnError(PlatformError):
    """The account has a second factor already."""

    status_code = 409
    type = "second-factor-on"
    title = "The account has a second factor; remove it first"


class SecondFactorOffError(PlatformError):
    """The account has no second factor, or none that was begun."""

    status_code = 409
    type = "second-factor-off"
    title = "The account has no second factor to confirm or remove"


@dataclass(frozen=True)
class SecondFactors:
    """The caller's own second factor."""

    proofs: Proofs

    async def begin(
        self,
        session: AsyncSession,
        caller: Principal,
        request: SecondFactorRequest,
        *,
        now_ms: int,
    ) -> SecondFactorBegun:
        """Make a secret, which is asked for once it was confirmed.

        Raises `WrongCurrentPasswordError`, `TooManyAttemptsError` and `SecondFactorOnError`.
        """
        account = await find_caller(session, caller)
        user = account.user
        if user.totp_confirmed_at_ms is not None:
            raise SecondFactorOnError
        await self.proofs.check_password(session, caller, account, request.current_password, now_ms=now_ms)
        secret = new_secret()
        encrypted = self.proofs.codes.encrypted(secret)
        if not await repository.begin(session, user, encrypted=encrypted):
            raise SecondFactorOnError
        return SecondFactorBegun(secret=secret, otpauth_uri=enrolment_uri(secret, email=user.email))

    async def confirm(
        self,
        session: AsyncSession,
        caller: Principal,
        confirmation: SecondFactorConfirmation,
        *,
        now_ms: int,
    ) -> RecoveryCodes:
        """Ask for the second factor from now on; raises `SecondFactorOffError`, `WrongCodeError` and others."""
        account = await find_caller(session, caller)
        user = account.user
        if user.totp_confirmed_at_ms is not None:
            raise SecondFactorOnError
        if user.totp_secret is None:
            raise SecondFactorOffError
        step = await self.proofs.check_step(session, caller, account, confirmation.code, now_ms=now_ms)
        if not await repository.confirm(session, user, step=step, now_ms=now_ms):
            raise SecondFactorOnError
        codes = new_recovery_codes()
        digests = [self.proofs.codes.digest_of(user.user_id, code) for code in codes]
        await repository.replace_recovery_codes(session, user, digests)
        added = Event(Action.SECOND_FACTOR_ADDED, actor_of(caller), "user", user.user_id)
        await record(session, account.institution.as_contract(), added, now_ms=now_ms)
        await tell_owner(session, account, SecurityChange.SECOND_FACTOR_ADDED, now_ms=now_ms)
        return RecoveryCodes(recovery_codes=tuple(codes))

    async def remove(
        self,
        session: AsyncSession,
        caller: Principal,
        removal: SecondFactorRemoval,
        *,
        now_ms: int,
    ) -> None:
        """Remove the second factor; raises `WrongCurrentPasswordError`, `WrongCodeError`, `SecondFactorOffError`."""
        account = await find_caller(session, caller)
        if account.user.totp_confirmed_at_ms is None:
            raise SecondFactorOffError
        proofs = self.proofs
        await proofs.check_password(session, caller, account, removal.current_password, now_ms=now_ms)
        kind = await proofs.use_code(session, caller, account, removal.code, now_ms=now_ms)
        await remove_second_factor(session, account, actor_of(caller), now_ms=now_ms)
        await proofs.codes.note_use(session, account, kind, now_ms=now_ms)


async def remove_second_factor(session: AsyncSession, account: Account, by: Actor, *, now_ms: int) -> None:
    """Remove the second factor of `account`, record it and tell its owner; raises `SecondFactorOffError`."""
    user_id = account.user.user_id
    if not await repository.remove(session, account.user):
        raise SecondFactorOffError
    removed = Event(Action.SECOND_FACTOR_REMOVED, by, "user", user_id)
    await record(session, account.institution.as_contract(), removed, now_ms=now_ms)
    await tell_owner(session, account, SecurityChange.SECOND_FACTOR_REMOVED, now_ms=now_ms)
