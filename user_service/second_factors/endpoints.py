"""Routes of users about their own second factor."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.db import SessionDep
from common.strict_json import StrictRoute
from user_service.second_factors.schemas import (
    RecoveryCodes,
    SecondFactorBegun,
    SecondFactorConfirmation,
    SecondFactorRemoval,
    SecondFactorRequest,
)
from user_service.second_factors.service import SecondFactors
from user_service.sessions.origin import OriginDep
from user_service.users.endpoints import CanChangeProfile

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON that is read here"},
    401: {"description": "No valid access token, or its user is gone or disabled"},
    403: {"description": "The access token does not allow this, or the password or the code is wrong"},
    409: {"description": "There is a second factor already, or none"},
    429: {"description": "Too many attempts failed; see Retry-After"},
    503: {"description": "Too many passwords are being checked, or the database is away; see Retry-After"},
}
router = APIRouter(prefix="/v1/users/me/second-factor", route_class=StrictRoute, tags=["users"])


async def _second_factors(request: Request) -> SecondFactors:
    second_factors: SecondFactors = request.state.second_factors
    return second_factors


SecondFactorsDep = Annotated[SecondFactors, Depends(_second_factors)]


@router.post("", responses=_REFUSALS)
async def begin_second_factor(
    body: SecondFactorRequest,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
    origin: OriginDep,
) -> SecondFactorBegun:
    """Make the secret of a second factor. It is asked for at the login once a code of it was confirmed."""
    return await second_factors.begin(session, caller, body, origin, now_ms=epoch_ms())


@router.post("/confirm", responses=_REFUSALS)
async def confirm_second_factor(
    body: SecondFactorConfirmation,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
    origin: OriginDep,
) -> RecoveryCodes:
    """Turn the second factor on by its first code, and return ten recovery codes, which are shown only now."""
    return await second_factors.confirm(session, caller, body, origin, now_ms=epoch_ms())


@router.delete("", status_code=204, responses=_REFUSALS)
async def remove_second_factor(
    body: SecondFactorRemoval,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
    origin: OriginDep,
) -> None:
    """Turn the second factor off, with password and code."""
    await second_factors.remove(session, caller, body, origin, now_ms=epoch_ms())
