"""Who may register an institution: everybody, or operators only, as REGISTRATION says."""

from fastapi import Request
from fastapi.security import HTTPBearer

from common.auth.bearer import authenticate
from common.contracts.tokens import Scope
from common.errors import PlatformError
from user_service.settings import RegistrationPolicy

_bearer = HTTPBearer(auto_error=False)


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
    credentials = await _bearer(request)
    if credentials is None:
        raise RegistrationClosedError
    caller = await authenticate(request, credentials)
    if Scope.PLATFORM_WRITE.value not in caller.scopes:
        raise RegistrationClosedError
