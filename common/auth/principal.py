"""Who is calling, and what they may do."""

from dataclasses import dataclass

from common.contracts.institutions import Institution
from common.contracts.roles import roles_with
from common.contracts.tokens import Scope, TokenUse
from common.errors import PlatformError

_FOR_INSTITUTIONS = "This is for people and API keys of institutions."


class UnauthenticatedError(PlatformError):
    """The request carries no token that can be trusted; why is not said."""

    status_code = 401
    type = "unauthenticated"
    title = "A valid access token or API key is needed"

    @property
    def headers(self) -> dict[str, str]:
        """Name the scheme, as RFC 9110 asks of every 401."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(PlatformError):
    """The caller is known but may not do this: `missing` is the scope they would need, `detail` any other reason."""

    status_code = 403
    type = "forbidden"
    title = "The access token or API key does not allow this"

    def __init__(self, detail: str = "", *, missing: Scope | None = None) -> None:
        super().__init__(detail)
        self._missing = missing
        if missing is not None:
            roles = roles_with(missing)
            self.members = {
                "missing_scope": missing.value,
                **({"required_roles": [role.value for role in roles]} if roles else {}),
            }

    @property
    def headers(self) -> dict[str, str]:
        """Name the scope that is missing, as RFC 6750 section 3.1 has it."""
        if self._missing is None:
            return {}
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self._missing.value}"'}


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Users and API keys act for an institution; services act for none.

    `session_id` is what ends the caller's rights: the session of a user, the id of an API key.
    """

    use: TokenUse
    subject: str
    scopes: frozenset[str]
    token_id: str
    expires_at: int
    role: str | None = None
    institution: Institution | None = None
    session_id: str = ""

    @property
    def tenant(self) -> Institution:
        """Return the caller's institution; raises `ForbiddenError` for callers that have none."""
        if self.institution is None:
            raise ForbiddenError(_FOR_INSTITUTIONS)
        return self.institution

    @property
    def institution_id(self) -> str:
        """Return the caller's institution id; raises `ForbiddenError` for callers that have none."""
        return self.tenant.institution_id

    def require(self, scope: Scope) -> None:
        """Raise `ForbiddenError` unless this caller acts for an institution and holds `scope`."""
        if self.institution is None:
            raise ForbiddenError(_FOR_INSTITUTIONS)
        if scope.value not in self.scopes:
            raise ForbiddenError(missing=scope)

    def require_person(self) -> None:
        """Raise `ForbiddenError` unless a person is calling: what is about themselves has no meaning for a program."""
        if self.use is not TokenUse.USER:
            raise ForbiddenError("This is for people, who log in.")

    def require_service(self, scope: Scope) -> None:
        """Raise `ForbiddenError` unless this is one of our own services and holds `scope`."""
        if self.use is not TokenUse.SERVICE:
            raise ForbiddenError("This is for the platform's own services.")
        if scope.value not in self.scopes:
            raise ForbiddenError(missing=scope)
