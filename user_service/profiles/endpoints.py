"""Routes for users about themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.auth.bearer import Person
from common.clock import epoch_ms
from common.db import SessionDep
from common.errors import OverloadedError
from common.problems import refusals
from common.strict_json import StrictRoute
from user_service.attempts.service import TooManyAttemptsError
from user_service.auth.weak_passwords import WeakPasswordError
from user_service.profiles.schemas import ProfileChange, UserProfile
from user_service.profiles.service import Profiles
from user_service.second_factors.proofs import WrongCurrentPasswordError
from user_service.users.acting import CanChangeProfile

router = APIRouter(prefix="/v1/users", route_class=StrictRoute, tags=["users"])


async def _profiles(request: Request) -> Profiles:
    profiles: Profiles = request.state.profiles
    return profiles


ProfilesDep = Annotated[Profiles, Depends(_profiles)]


@router.get("/me")
async def read_me(caller: Person, session: SessionDep, profiles: ProfilesDep) -> UserProfile:
    """Return the caller's own profile and institution."""
    return await profiles.read(session, caller)


@router.patch(
    "/me",
    responses=refusals(WrongCurrentPasswordError, WeakPasswordError, TooManyAttemptsError, OverloadedError),
)
async def change_me(
    change: ProfileChange,
    caller: CanChangeProfile,
    session: SessionDep,
    profiles: ProfilesDep,
) -> UserProfile:
    """Change the caller's own name or password. A new password ends all their other sessions."""
    return await profiles.change(session, caller, change, now_ms=epoch_ms())
