"""Checks the codes that people show, each of which works once."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from user_service.derived_keys import DerivedKeys, keyed_digest
from user_service.events.recording import Action, Actor, Event, record
from user_service.notices.security_changes import SecurityChange, tell_owner
from user_service.second_factors import repository
from user_service.second_factors.codes import matching_step, plain
from user_service.users.accounts_repository import Account
from user_service.users.repository import hold_user
from user_service.users.tables import UserRow


class CodeKind(StrEnum):
    """What a code was."""

    TIME_STEP = "time_step"
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Codes:
    """Codes of second factors, and the recovery codes that stand in for them."""

    keys: DerivedKeys

    async def use(self, session: AsyncSession, user: UserRow, code: str, *, now_ms: int) -> CodeKind | None:
        """Use a code up and return what it was; None when it is wrong or was used before.

        It takes the row of the user before that of a recovery code, as whoever removes the second factor does.
        """
        await hold_user(session, user.user_id, institution_id=user.institution_id)
        step = self.step_of(user, code, now_ms=now_ms)
        if step is not None:
            return CodeKind.TIME_STEP if await repository.use_step(session, user, step) else None
        digest = self.digest_of(user.user_id, code)
        used = await repository.use_recovery_code(session, user, digest, now_ms=now_ms)
        return CodeKind.RECOVERY if used else None

    def step_of(self, user: UserRow, code: str, *, now_ms: int) -> int | None:
        """Return the time step whose code is shown, None for none."""
        if user.totp_secret is None:
            return None
        secret = self.keys.second_factors.decrypt(user.totp_secret).decode()
        return matching_step(secret, code, now_ms=now_ms)

    def encrypted(self, secret: str) -> str:
        """Return what is stored of a secret."""
        return self.keys.second_factors.encrypt(secret.encode()).decode()

    def digest_of(self, user_id: str, code: str) -> str:
        """Return what is stored of a recovery code."""
        return keyed_digest(self.keys.recovery_codes, f"{user_id}:{plain(code)}")

    async def note_use(self, session: AsyncSession, account: Account, kind: CodeKind, *, now_ms: int) -> None:
        """Record the use of a recovery code and tell its owner; other codes are nothing special."""
        if kind is not CodeKind.RECOVERY:
            return
        user_id = account.user.user_id
        event = Event(Action.RECOVERY_CODE_USED, Actor("user", user_id), "user", user_id)
        await record(session, account.institution.as_contract(), event, now_ms=now_ms)
        await tell_owner(session, account, SecurityChange.RECOVERY_CODE_USED, now_ms=now_ms)
