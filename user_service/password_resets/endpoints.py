"""Routes of those who have forgotten their password."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.password_resets.schemas import ResetConfirmation, ResetRequest
from user_service.password_resets.service import PasswordResets
from user_service.sessions.origin import OriginDep

_ASK_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    503: {"description": "The database is away; see Retry-After"},
}
_CONFIRM_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    401: {"description": "The token is unknown, expired or used"},
    422: {"description": "A value is not taken here, or the password is too easy to guess"},
    429: {"description": "Too many attempts failed; see Retry-After"},
    503: {"description": "Too many passwords are being hashed, or the database is away; see Retry-After"},
}
router = APIRouter(prefix="/v1/auth/password-resets", route_class=StrictRoute, tags=["authentication"])


async def _password_resets(request: Request) -> PasswordResets:
    password_resets: PasswordResets = request.state.password_resets
    return password_resets


PasswordResetsDep = Annotated[PasswordResets, Depends(_password_resets)]


@router.post("", status_code=202, responses=_ASK_REFUSALS)
async def ask_for_reset(body: ResetRequest, session: SessionDep, password_resets: PasswordResetsDep) -> None:
    """Ask for a mail with a token that resets the password. The answer is the same for every address."""
    await password_resets.ask(session, body, now_ms=epoch_ms())


@router.post("/confirm", status_code=204, responses=_CONFIRM_REFUSALS)
async def confirm_reset(
    body: ResetConfirmation, session: SessionDep, password_resets: PasswordResetsDep, origin: OriginDep
) -> None:
    """Choose a new password with the token from the mail. It unlocks the account and ends all its sessions."""
    await password_resets.confirm(session, body, origin, now_ms=epoch_ms())
