"""What user_service issues and the others accept."""

from enum import StrEnum

from pydantic import Field, SecretStr

from common.contracts.fields import Contract, Identifier

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type, no secret
ALGORITHM = "RS256"


class TokenUse(StrEnum):
    """Whether a person or one of our own services holds the token."""

    USER = "user"
    SERVICE = "service"


class Scope(StrEnum):
    """What a token lets its holder do."""

    SCORE_WRITE = "score:write"
    DECISIONS_READ = "decisions:read"
    ALERTS_READ = "alerts:read"
    AUDIT_READ = "audit:read"
    PROFILE_WRITE = "profile:write"
    # service tokens only
    ALERTS_WRITE = "alerts:write"
    AUDIT_WRITE = "audit:write"
    GEOIP_READ = "geoip:read"
    GEOIP_CONTROL = "geoip:control"
    RATES_READ = "rates:read"
    RECIPIENTS_READ = "recipients:read"


class ServiceTokenRequest(Contract):
    """Client credentials of one of our services."""

    client_id: Identifier
    client_secret: SecretStr


class ServiceToken(Contract):
    """A bearer token for calls between services."""

    access_token: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's scheme name, no secret
    expires_in: int = Field(gt=0)
