"""Where registration is closed: operators register institutions, and the first admin of each is invited by mail."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.auth.principal import Principal
from common.errors import InvalidRequestError
from user_service.access_changes.noting import Subject, note_change
from user_service.events.recording import Action, Event, actor_of, record
from user_service.mailed_tokens.texts import Purpose, mailed
from user_service.members.invitations import mail_invitation
from user_service.tenants.schemas import AdminInvited, Registration
from user_service.tenants.service import Application, Institutions
from user_service.users.acting import find_caller
from user_service.users.email import email_key
from user_service.users.repository import EmailTakenError, has_account

_PASSWORD = ("body", "admin", "password")


async def register_for_another(
    session: AsyncSession,
    institutions: Institutions,
    registration: Registration,
    operator: Principal,
    *,
    now_ms: int,
) -> AdminInvited:
    """Make an institution for whom the operator names as its admin, and mail them a token to join.

    The operator gets no session of it and chooses no password. Operators may know who has an account: one that is named
    is refused, since its owner could not join.

    Raises `InvalidRequestError` for a password, `UnauthenticatedError` for an operator who is none any more, and
    `EmailTakenError`.
    """
    admin = registration.admin
    if admin.password is not None:
        message = "the admin chooses it, with the token they are mailed"
        raise InvalidRequestError([{"type": "unwanted", "loc": _PASSWORD, "msg": message}])
    inviting = await find_caller(session, operator)
    if await has_account(session, email_key=email_key(admin.email)):
        raise EmailTakenError
    application = Application(
        registration.name,
        registration.mode,
        registration.base_currency,
        admin.email,
        admin.full_name,
        password_hash="",
    )
    actor = actor_of(operator)
    account = await institutions.store(session, application, operator=actor, now_ms=now_ms)
    user, institution = account.user, account.institution
    invited = Event(Action.USER_INVITED, actor, "user", user.user_id, {"role": user.role})
    await record(session, institution.as_contract(), invited, now_ms=now_ms)
    await mail_invitation(session, account, invited_by=inviting.user.full_name, now_ms=now_ms)
    await note_change(session, Subject.INSTITUTION, institution.institution_id)
    return AdminInvited(
        institution_id=institution.institution_id,
        user_id=user.user_id,
        expires_in=mailed(Purpose.INVITATION).expires_in,
    )
