"""Who belongs to an institution, and as what."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.contracts.roles import Role
from common.contracts.tokens import Scope
from common.cursors import from_id_cursor, to_id_cursor
from common.errors import NotFoundError, PlatformError
from common.four_eyes import SecondPersonNeededError
from common.ids import new_id
from common.paging import cut
from user_service.api_keys.service import shown_with_maker
from user_service.events.recording import Action, Actor, Details, Event, record
from user_service.institutions import repository as institutions
from user_service.mailed_tokens.schemas import TokenMailed
from user_service.mailed_tokens.texts import Purpose, mailed
from user_service.members import repository
from user_service.members.changing import apply_change, refuse_leaderless, refuse_role
from user_service.members.invitation_limits import refuse_too_many
from user_service.members.invitations import mail_invitation
from user_service.members.leading import makes_leader, stops_leading
from user_service.members.schemas import (
    ChangedMember,
    Invitation,
    Member,
    MemberChange,
    MemberPage,
    MemberState,
)
from user_service.notices.queue import as_person
from user_service.second_factors.service import remove_second_factor
from user_service.sessions.ending import Ending, EndReason, end_sessions
from user_service.times import to_time, to_time_or_none
from user_service.users import repository as users
from user_service.users.accounts_repository import Account
from user_service.users.acting import find_holder
from user_service.users.email import email_key
from user_service.users.roles import leading_role
from user_service.users.tables import UserRow


class OwnAccountError(PlatformError):
    """People do not change themselves as admins change others."""

    status_code = 409
    type = "own-account"
    title = "Nobody does this to themselves; ask another admin"


class AlreadyJoinedError(PlatformError):
    """Somebody who has joined needs no invitation."""

    status_code = 409
    type = "already-joined"
    title = "This user has joined already"


class UserDisabledError(PlatformError):
    """Somebody who is disabled is not invited."""

    status_code = 409
    type = "user-disabled"
    title = "This user is disabled; enable them first"


@dataclass(frozen=True, slots=True)
class By:
    """The person who does something to others of their institution."""

    institution_id: str
    actor: Actor

    @property
    def user_id(self) -> str:
        """Return who they are."""
        assert self.actor.actor_id is not None  # noqa: S101 - people have ids
        return self.actor.actor_id


def by(caller: Principal) -> By:
    """Return the caller as the one who does something."""
    return By(caller.institution_id, Actor("user", caller.subject))


@dataclass(frozen=True)
class Members:
    """The people of institutions. Whoever changes them must still be allowed to: that is looked up anew."""

    async def read_page(
        self, session: AsyncSession, who: By, *, cursor: str | None, limit: int
    ) -> MemberPage:
        """Return some people of an institution in the order they came; raises `CursorInvalidError`."""
        found = await repository.read_members(
            session, who.institution_id, after=from_id_cursor(cursor), limit=limit + 1
        )
        rows, next_cursor = cut(found, limit, lambda row: to_id_cursor(row.user_id))
        return MemberPage(items=tuple(shown(row) for row in rows), next_cursor=next_cursor)

    async def read(self, session: AsyncSession, who: By, user_id: str) -> Member:
        """Return one person of an institution; raises `NotFoundError`."""
        return shown((await _find(session, who, user_id)).user)

    async def invite(self, session: AsyncSession, who: By, invitation: Invitation, *, now_ms: int) -> Member:
        """Add somebody and mail them a token to join; whether their address is known elsewhere shows nowhere.

        Raises `RoleNotOfferedError`, `EmailTakenError` and `TooManyInvitationsError`.
        """
        await institutions.hold_institution(session, who.institution_id)
        inviting = await _acting(session, who)
        refuse_role(invitation.role, who.institution_id)
        user = _invited(invitation, who, now_ms=now_ms)
        await users.add_user(session, user)
        await refuse_too_many(session, user, now_ms=now_ms)
        account = Account(user, inviting.institution)
        await mail_invitation(session, account, invited_by=inviting.user.full_name, now_ms=now_ms)
        details = {"role": invitation.role.value}
        await _note(session, account, Action.USER_INVITED, who, now_ms=now_ms, details=details)
        return shown(user)

    async def invite_again(self, session: AsyncSession, who: By, user_id: str, *, now_ms: int) -> TokenMailed:
        """Mail a new invitation; those before it are worth nothing.

        Raises `NotFoundError`, `AlreadyJoinedError`, `UserDisabledError` and `TooManyInvitationsError`.
        """
        await institutions.hold_institution(session, who.institution_id)
        inviting = await _acting(session, who)
        account = await _find(session, who, user_id)
        if account.user.password_hash:
            raise AlreadyJoinedError
        if account.user.disabled_at_ms is not None:
            raise UserDisabledError
        await refuse_too_many(session, account.user, now_ms=now_ms)
        await mail_invitation(session, account, invited_by=inviting.user.full_name, now_ms=now_ms)
        details: Details = {"role": account.user.role, "again": True}
        await _note(session, account, Action.USER_INVITED, who, now_ms=now_ms, details=details)
        return mailed(Purpose.INVITATION)

    async def change(
        self,
        session: AsyncSession,
        who: By,
        user_id: str,
        change: MemberChange,
        *,
        now_ms: int,
        approved: bool = False,
    ) -> ChangedMember:
        """Change somebody's role, disable or enable them; what takes rights away ends their sessions.

        API keys they made go on, and are named, unless the change revokes them.

        Raises `NotFoundError`, `OwnAccountError`, `RoleNotOfferedError`, `LastAdminError` and, for what makes somebody
        run the institution and is not `approved`, `SecondPersonNeededError`.
        """
        acting, account = await self._other(session, who, user_id)
        before, leading = shown(account.user), leading_role(who.institution_id)
        if not approved and makes_leader(before, change, leading):
            raise SecondPersonNeededError
        if stops_leading(before, change, leading):
            account.user.led_until_ms = now_ms
        refuse_role(change.role, who.institution_id)
        keys = await apply_change(
            session, account, change, who.actor, by=as_person(acting.user), now_ms=now_ms
        )
        if change.role is not None or change.disabled:
            await refuse_leaderless(session, who.institution_id)
        return ChangedMember(
            **shown(account.user).model_dump(),
            api_keys=tuple(shown_with_maker(key, now_ms=now_ms) for key in keys),
        )

    async def remove_second_factor(
        self, session: AsyncSession, who: By, user_id: str, *, now_ms: int
    ) -> None:
        """Remove somebody's second factor and end their sessions; raises `SecondFactorOffError` and as `change`."""
        _, account = await self._other(session, who, user_id)
        await remove_second_factor(session, account, who.actor, now_ms=now_ms)
        ending = Ending(who.actor, EndReason.SECOND_FACTOR_REMOVED)
        await end_sessions(session, account, ending, now_ms=now_ms)

    async def end_sessions(self, session: AsyncSession, who: By, user_id: str, *, now_ms: int) -> None:
        """End all sessions of somebody else; raises as `change`."""
        _, account = await self._other(session, who, user_id)
        await end_sessions(session, account, Ending(who.actor, EndReason.REVOKED), now_ms=now_ms)

    async def _other(self, session: AsyncSession, who: By, user_id: str) -> tuple[Account, Account]:
        """Return who acts and somebody else, as they are once nobody else is changing people of this institution."""
        await institutions.hold_institution(session, who.institution_id)
        acting = await _acting(session, who)
        account = await _find(session, who, user_id)
        if user_id == who.user_id:
            raise OwnAccountError
        return acting, account


def shown(row: UserRow) -> Member:
    """Return a person as admins see them."""
    if row.disabled_at_ms is not None:
        state = MemberState.DISABLED
    else:
        state = MemberState.ACTIVE if row.password_hash else MemberState.INVITED
    return Member(
        user_id=row.user_id,
        email=row.email,
        full_name=row.full_name,
        role=Role(row.role),
        state=state,
        second_factor=row.totp_confirmed_at_ms is not None,
        invited_by=row.invited_by,
        created_at=to_time(row.created_at_ms),
        last_login_at=to_time_or_none(row.last_login_at_ms),
    )


async def _acting(session: AsyncSession, who: By) -> Account:
    return await find_holder(session, who.user_id, institution_id=who.institution_id, scope=Scope.USERS_WRITE)


async def _find(session: AsyncSession, who: By, user_id: str) -> Account:
    account = await repository.find_member(session, user_id, institution_id=who.institution_id)
    if account is None:
        raise NotFoundError
    return account


async def _note(
    session: AsyncSession,
    account: Account,
    action: Action,
    who: By,
    *,
    now_ms: int,
    details: Details | None = None,
) -> None:
    event = Event(action, who.actor, "user", account.user.user_id, details or {})
    await record(session, account.institution.as_contract(), event, now_ms=now_ms)


def _invited(invitation: Invitation, who: By, *, now_ms: int) -> UserRow:
    user_id = new_id("usr")
    return UserRow(
        user_id=user_id,
        institution_id=who.institution_id,
        email=invitation.email,
        email_key=email_key(invitation.email),
        login_key=user_id,
        full_name=invitation.full_name,
        role=invitation.role.value,
        password_hash="",
        created_at_ms=now_ms,
        invited_by=who.user_id,
    )
