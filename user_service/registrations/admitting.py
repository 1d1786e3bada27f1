"""Who may register an institution: everybody, or operators only, as REGISTRATION says. Asked before a body is read."""

from fastapi import Request

from common.auth.bearer import Admitting, caller_of
from common.auth.principal import Principal
from common.contracts.tokens import Scope
from common.errors import PlatformError
from common.rate_limits.limiting import count_unauthenticated
from user_service.settings import RegistrationPolicy


class RegistrationClosedError(PlatformError):
    """Only operators register institutions on this platform."""

    status_code = 403
    type = "registration-closed"
    title = "Only operators register institutions here"


class MayRegister(Admitting):
    """Lets through everybody, or operators; whoever is not known counts by their address."""

    async def __call__(self, request: Request) -> Principal | None:
        """Return the operator who registers, None where everybody may.

        Raises `RegistrationClosedError` and `UnauthenticatedError`.
        """
        policy: RegistrationPolicy = request.state.registration
        if policy is not RegistrationPolicy.CLOSED:
            return None
        if not _shows_a_token(request):
            raise RegistrationClosedError
        caller = await caller_of(request)
        if Scope.PLATFORM_WRITE.value not in caller.scopes:
            raise RegistrationClosedError
        return caller

    async def admit(self, request: Request) -> None:
        """Do the same and count the request; raises `RateLimitedError` too."""
        policy: RegistrationPolicy = request.state.registration
        if policy is not RegistrationPolicy.CLOSED or not _shows_a_token(request):
            await count_unauthenticated(request)
        await self(request)


def _shows_a_token(request: Request) -> bool:
    return "authorization" in request.headers
