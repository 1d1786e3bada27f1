"""Who may register an institution: everybody, or operators only, as REGISTRATION says."""

from fastapi import Request

from common.auth.bearer import caller_of
from common.contracts.tokens import Scope
from common.errors import PlatformError
from user_service.settings import RegistrationPolicy


class RegistrationClosedError(PlatformError):
    """Only operators register institutions on this platform."""

    status_code = 403
    type = "registration-closed"
    title = "Only operators register institutions here"


async def may_register(request: Request) -> None:
    """Let through everybody or operators; raises `RegistrationClosedError` and `UnauthenticatedError`."""
    policy: RegistrationPolicy = request.state.registration
    if policy is RegistrationPolicy.OPEN:
        return
    if "authorization" not in request.headers:
        raise RegistrationClosedError
    caller = await caller_of(request)
    if Scope.PLATFORM_WRITE.value not in caller.scopes:
        raise RegistrationClosedError
