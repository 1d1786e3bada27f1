"""Routes of users about their own second factor."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.clock import epoch_ms
from common.db import SessionDep
from common.errors import OverloadedError
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.attempts.service import TooManyAttemptsError
from user_service.second_factors.proofs import WrongCodeError, WrongCurrentPasswordError
from user_service.second_factors.schemas import (
    RecoveryCodes,
    SecondFactorBegun,
    SecondFactorConfirmation,
    SecondFactorRemoval,
    SecondFactorRequest,
)
from user_service.second_factors.service import SecondFactorOffError, SecondFactorOnError, SecondFactors
from user_service.users.acting import CanChangeProfile

_PASSWORD = (WrongCurrentPasswordError, TooManyAttemptsError, OverloadedError)
router = APIRouter(prefix="/v1/users/me/second-factor", route_class=StrictRoute, tags=["users"])


async def _second_factors(request: Request) -> SecondFactors:
    second_factors: SecondFactors = request.state.second_factors
    return second_factors


SecondFactorsDep = Annotated[SecondFactors, Depends(_second_factors)]


@router.post("", responses=refusals(*_PASSWORD, SecondFactorOnError))
async def begin_second_factor(
    body: SecondFactorRequest,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
) -> SecondFactorBegun:
    """Make the secret of a second factor. It is asked for at the login once a code of it was confirmed."""
    return await second_factors.begin(session, caller, body, now_ms=epoch_ms())


@router.post(
    "/confirm",
    responses=refusals(WrongCodeError, TooManyAttemptsError, SecondFactorOnError, SecondFactorOffError),
)
async def confirm_second_factor(
    body: SecondFactorConfirmation,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
) -> RecoveryCodes:
    """Turn the second factor on by its first code, and return ten recovery codes, which are shown only now."""
    return await second_factors.confirm(session, caller, body, now_ms=epoch_ms())


@router.post("/remove", status_code=204, responses=refusals(*_PASSWORD, WrongCodeError, SecondFactorOffError))
async def remove_second_factor(
    body: SecondFactorRemoval,
    caller: CanChangeProfile,
    session: SessionDep,
    second_factors: SecondFactorsDep,
) -> None:
    """Turn the second factor off, with password and code."""
    await second_factors.remove(session, caller, body, now_ms=epoch_ms())
