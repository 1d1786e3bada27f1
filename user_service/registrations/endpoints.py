"""Routes that register institutions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from common.auth.principal import Principal, UnauthenticatedError
from common.clock import epoch_ms
from common.db import SessionDep
from common.errors import OverloadedError
from common.problems import Responses, refusals
from common.strict_json import StrictRoute
from user_service.attempts.service import TooManyAttemptsError
from user_service.auth.weak_passwords import WeakPasswordError
from user_service.mailed_tokens.desk import InvalidMailedTokenError
from user_service.origin import OriginDep
from user_service.registrations.admitting import MayRegister, RegistrationClosedError
from user_service.registrations.schemas import Confirmation, ConfirmationAwaited
from user_service.registrations.service import (
    Registrations,
    RegistrationsFullError,
    TooManyRegistrationsError,
)
from user_service.tenants.schemas import AdminInvited, Registered, Registration
from user_service.users.repository import EmailTakenError

_ASKED: Responses = {
    202: {
        "model": ConfirmationAwaited,
        "description": "A mail says how to go on; the answer is the same for every address",
    }
}
# who is calling is only asked where REGISTRATION is closed
_CLOSED = (UnauthenticatedError, RegistrationClosedError)
router = APIRouter(prefix="/v1/institutions", route_class=StrictRoute, tags=["institutions"])


async def _registrations(request: Request) -> Registrations:
    registrations: Registrations = request.state.registrations
    return registrations


RegistrationsDep = Annotated[Registrations, Depends(_registrations)]
Admitted = Annotated[Principal | None, Depends(MayRegister())]
"""The operator, where only operators register."""


def _answer(done: Registered | AdminInvited | ConfirmationAwaited) -> Registered | AdminInvited | Response:
    """Return what was made, or 202 with what waits for its confirmation."""
    if not isinstance(done, ConfirmationAwaited):
        return done
    return Response(done.model_dump_json(), status_code=202, media_type="application/json")


@router.post(
    "",
    status_code=201,
    response_model=Registered | AdminInvited,
    responses=_ASKED
    | refusals(
        *_CLOSED,
        EmailTakenError,
        WeakPasswordError,
        RegistrationsFullError,
        TooManyRegistrationsError,
        OverloadedError,
    ),
)
async def register(
    registration: Registration,
    operator: Admitted,
    session: SessionDep,
    registrations: RegistrationsDep,
    origin: OriginDep,
) -> Registered | AdminInvited | Response:
    """Register an institution with its first admin.

    `REGISTRATION=verified`: 202, and the address gets a mail; its token, with the password, makes the institution
    within 24 hours. An address that has an account gets another mail, one that had three mails today gets none: then
    the token of one of those serves. The answer is the same. `REGISTRATION=open`: the institution is
    made and its admin logged in at once. `REGISTRATION=closed`: operators only, and without a password. The institution
    is made at once, and its admin is mailed a token for `POST /v1/auth/invitations/accept`.
    """
    done = await registrations.register(session, registration, origin, operator=operator, now_ms=epoch_ms())
    return _answer(done)


@router.post(
    "/confirm",
    status_code=201,
    responses=refusals(
        *_CLOSED, InvalidMailedTokenError, EmailTakenError, TooManyAttemptsError, OverloadedError
    ),
)
async def confirm_registration(
    confirmation: Confirmation,
    _may: Admitted,
    session: SessionDep,
    registrations: RegistrationsDep,
    origin: OriginDep,
) -> Registered:
    """Make the institution with a token that was mailed to its address and the password it was registered with.

    Where an address was registered more than once, the password says which one is made. Its first admin is logged in
    at once.
    """
    return await registrations.confirm(session, confirmation, origin, now_ms=epoch_ms())
