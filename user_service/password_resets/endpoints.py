"""Routes of those who have forgotten their password."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.db import SessionDep
from common.errors import OverloadedError
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.attempts.service import TooManyAttemptsError
from user_service.auth.weak_passwords import WeakPasswordError
from user_service.mailed_tokens.desk import InvalidMailedTokenError
from user_service.mailed_tokens.schemas import TokenMailed
from user_service.origin import OriginDep
from user_service.password_resets.schemas import ResetConfirmation, ResetRequest
from user_service.password_resets.service import PasswordResets

router = APIRouter(prefix="/v1/auth/password-resets", route_class=StrictRoute, tags=["authentication"])


async def _password_resets(request: Request) -> PasswordResets:
    password_resets: PasswordResets = request.state.password_resets
    return password_resets


PasswordResetsDep = Annotated[PasswordResets, Depends(_password_resets)]


@router.post("", status_code=202)
async def ask_for_reset(
    body: ResetRequest, session: SessionDep, password_resets: PasswordResetsDep
) -> TokenMailed:
    """Ask for a mail with a token that resets the password. The answer is the same for every address."""
    return await password_resets.ask(session, body, now_ms=epoch_ms())


@router.post(
    "/confirm",
    status_code=204,
    responses=refusals(InvalidMailedTokenError, WeakPasswordError, TooManyAttemptsError, OverloadedError),
)
async def confirm_reset(
    body: ResetConfirmation, session: SessionDep, password_resets: PasswordResetsDep, origin: OriginDep
) -> None:
    """Choose a new password with the token from the mail. It unlocks the account and ends all its sessions."""
    await password_resets.confirm(session, body, origin, now_ms=epoch_ms())
