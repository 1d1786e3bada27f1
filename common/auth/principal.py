"""Who is calling, and what they may do."""

from dataclasses import dataclass

from common.contracts.institutions import Institution
from common.contracts.tokens import Scope, TokenUse
from common.errors import PlatformError


class UnauthenticatedError(PlatformError):
    """The request carries no token that can be trusted; why is not said."""

    status_code = 401
    type = "unauthenticated"
    title = "A valid access token is needed"

    @property
    def headers(self) -> dict[str, str]:
        """Name the scheme, as RFC 9110 asks of every 401."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(PlatformError):
    """The caller is known but may not do this."""

    status_code = 403
    type = "forbidden"
    title = "The access token does not allow this"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Users act for an institution; services act for none."""

    use: TokenUse
    subject: str
    scopes: frozenset[str]
    token_id: str
    expires_at: int
    role: str | None = None
    institution: Institution | None = None

    @property
    def tenant(self) -> Institution:
        """Return the caller's institution; raises `ForbiddenError` for callers that have none."""
        if self.institution is None:
            raise ForbiddenError
        return self.institution

    @property
    def institution_id(self) -> str:
        """Return the caller's institution id; raises `ForbiddenError` for callers that have none."""
        return self.tenant.institution_id

    def require(self, scope: Scope, *, use: TokenUse) -> None:
        """Raise `ForbiddenError` unless this is a caller of the kind `use` that holds `scope`."""
        if self.use is not use or scope.value not in self.scopes:
            raise ForbiddenError
