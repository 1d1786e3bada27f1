"""What users see and change of themselves."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.contracts.roles import Role
from user_service.auth.passwords import Passwords
from user_service.auth.weak_passwords import refuse_weak
from user_service.events.recording import Action, Event, actor_of, record
from user_service.mailed_tokens.repository import spend_mailed_tokens
from user_service.mailed_tokens.texts import Purpose
from user_service.notices.security_changes import SecurityChange, tell_owner
from user_service.profiles.schemas import InstitutionProfile, ProfileChange, UserProfile
from user_service.second_factors.proofs import Proofs, WrongCurrentPasswordError
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.times import to_time, to_time_or_none
from user_service.users import repository
from user_service.users.accounts_repository import Account
from user_service.users.acting import find_caller


@dataclass(frozen=True)
class Profiles:
    """The user who asks, and nobody else."""

    passwords: Passwords
    proofs: Proofs

    async def read(self, session: AsyncSession, caller: Principal) -> UserProfile:
        """Return the caller's profile; raises `UnauthenticatedError` when they are gone or disabled."""
        return _profile(await find_caller(session, caller))

    async def change(
        self, session: AsyncSession, caller: Principal, change: ProfileChange, *, now_ms: int
    ) -> UserProfile:
        """Change the caller's profile; a new password ends all their other sessions.

        Raises `UnauthenticatedError`, `WrongCurrentPasswordError`, `TooManyAttemptsError` and `WeakPasswordError`.
        """
        account = await find_caller(session, caller)
        if change.password is not None and change.current_password is not None:
            chosen = change.password.get_secret_value()
            refuse_weak(chosen, email=account.user.email, institution_name=account.institution.name)
            await self.proofs.check_password(session, caller, account, change.current_password, now_ms=now_ms)
            await self._replace_password(session, caller, account, chosen, now_ms=now_ms)
        if change.full_name is not None and change.full_name != account.user.full_name:
            account.user.full_name = change.full_name
            await session.flush()
            await _note(session, account, caller, Action.USER_NAME_CHANGED, now_ms=now_ms)
        return _profile(account)

    async def _replace_password(
        self, session: AsyncSession, caller: Principal, account: Account, chosen: str, *, now_ms: int
    ) -> None:
        user = account.user
        new_hash = await self.passwords.hash(chosen)
        if not await repository.replace_password(session, user, new_hash=new_hash):
            raise WrongCurrentPasswordError
        await spend_mailed_tokens(session, user, Purpose.PASSWORD_RESET, now_ms=now_ms)
        await _note(session, account, caller, Action.PASSWORD_CHANGED, now_ms=now_ms)
        await tell_owner(session, account, SecurityChange.PASSWORD_CHANGED, now_ms=now_ms)
        ending = Ending(actor_of(caller), EndReason.PASSWORD_CHANGED, keep=caller.session_id)
        await end_sessions(session, account, ending, now_ms=now_ms)


async def _note(
    session: AsyncSession, account: Account, caller: Principal, action: Action, *, now_ms: int
) -> None:
    event = Event(action, actor_of(caller), "user", account.user.user_id)
    await record(session, account.institution.as_contract(), event, now_ms=now_ms)


def _profile(account: Account) -> UserProfile:
    user, institution = account.user, account.institution
    return UserProfile(
        user_id=user.user_id,
        email=user.email,
        full_name=user.full_name,
        role=Role(user.role),
        second_factor=user.totp_confirmed_at_ms is not None,
        institution=InstitutionProfile(name=institution.name, **institution.as_contract().model_dump()),
        created_at=to_time(user.created_at_ms),
        last_login_at=to_time_or_none(user.last_login_at_ms),
    )
