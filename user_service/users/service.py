"""What users see and change of themselves."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal, UnauthenticatedError
from common.errors import PlatformError
from user_service.auth import repository as auth_repository
from user_service.auth.password_rules import weakness
from user_service.auth.passwords import Passwords
from user_service.institutions.tables import InstitutionRow
from user_service.users import repository
from user_service.users.roles import Role
from user_service.users.schemas import InstitutionProfile, ProfileChange, UserProfile
from user_service.users.tables import UserRow


class WrongCurrentPasswordError(PlatformError):
    """The current password that came with a new one is wrong."""

    status_code = 403
    type = "wrong-current-password"
    title = "The current password is wrong"


class WeakPasswordError(PlatformError):
    """The new password is too easy to guess."""

    status_code = 422
    type = "weak-password"
    title = "The password is too easy to guess"


def refuse_weak(password: str, *, email: str) -> None:
    """Raise `WeakPasswordError` for a new password that is among the first to be guessed."""
    reason = weakness(password, email=email)
    if reason is not None:
        raise WeakPasswordError(reason)


@dataclass(frozen=True)
class Profiles:
    """The user who asks, and nobody else."""

    passwords: Passwords

    async def read(self, session: AsyncSession, caller: Principal) -> UserProfile:
        """Return the caller's profile; raises `UnauthenticatedError` when they are gone or disabled."""
        user, institution = await _find(session, caller)
        return _profile(user, institution)

    async def change(
        self, session: AsyncSession, caller: Principal, change: ProfileChange, *, now_ms: int
    ) -> UserProfile:
        """Change the caller's profile; a new password ends all their other sessions.

        Raises `UnauthenticatedError`, `WrongCurrentPasswordError` and `WeakPasswordError`.
        """
        user, institution = await _find(session, caller)
        if change.password is not None and change.current_password is not None:
            await self._replace_password(
                session, user, current=change.current_password, chosen=change.password
            )
            kept = await auth_repository.session_of(
                session, user.institution_id, access_token_id=caller.token_id
            )
            await auth_repository.end_other_sessions(
                session, user.institution_id, user.user_id, keep=kept, now_ms=now_ms
            )
        if change.full_name is not None:
            user.full_name = change.full_name
        return _profile(user, institution)

    async def _replace_password(
        self, session: AsyncSession, user: UserRow, *, current: SecretStr, chosen: SecretStr
    ) -> None:
        refuse_weak(chosen.get_secret_value(), email=user.email)
        checked = await self.passwords.check(current.get_secret_value(), stored=user.password_hash)
        if not checked.correct:
            raise WrongCurrentPasswordError
        new_hash = await self.passwords.hash(chosen.get_secret_value())
        if not await repository.replace_password(session, user, new_hash=new_hash):
            raise WrongCurrentPasswordError


async def _find(session: AsyncSession, caller: Principal) -> tuple[UserRow, InstitutionRow]:
    found = await repository.find_user(session, caller.subject, institution_id=caller.institution_id)
    if found is None:
        raise UnauthenticatedError
    return found


def _profile(user: UserRow, institution: InstitutionRow) -> UserProfile:
    contract = institution.as_contract()
    return UserProfile(
        user_id=user.user_id,
        email=user.email,
        full_name=user.full_name,
        role=Role(user.role),
        institution=InstitutionProfile(name=institution.name, **contract.model_dump()),
        created_at=_time(user.created_at_ms),
        last_login_at=None if user.last_login_at_ms is None else _time(user.last_login_at_ms),
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
