"""What user_service issues and the others accept."""

import re
from enum import StrEnum

from pydantic import Field, SecretStr

from common.contracts.fields import Contract, Identifier

TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068's media type, no secret
ALGORITHM = "RS256"
API_KEY_TEXT = re.compile(rb"(ask_(?:live|test)_[0-9a-z]{8})_[A-Za-z0-9_-]{43}\Z")
"""An API key that user_service made; what comes before its secret may be shown."""
_API_KEY_MARKS = ("ask_live_", "ask_test_")
_JWT = "eyJ"  # how each part of one begins that says something: the base 64 of `{"`
_RANDOM = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*[0-9])[A-Za-z0-9_-]{43}\Z")


def has_form_of_secret(text: str) -> bool:
    """Say whether a short `text` has an API key or a JWT in it, or is 256 random bits, as refresh tokens are."""
    if text.startswith(_JWT) or f".{_JWT}" in text or any(mark in text for mark in _API_KEY_MARKS):
        return True
    return _RANDOM.match(text) is not None


class TokenUse(StrEnum):
    """Who holds the token: a person, a program of an institution, or one of our own services."""

    USER = "user"
    API_KEY = "api_key"
    SERVICE = "service"


class Scope(StrEnum):
    """What a token lets its holder do."""

    SCORE_WRITE = "score:write"
    DECISIONS_READ = "decisions:read"
    ALERTS_READ = "alerts:read"
    AUDIT_READ = "audit:read"
    PROFILE_WRITE = "profile:write"
    USAGE_READ = "usage:read"
    # people who run an institution
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    API_KEYS_READ = "api_keys:read"
    API_KEYS_WRITE = "api_keys:write"
    INSTITUTION_WRITE = "institution:write"
    # the operator of the platform
    PLATFORM_READ = "platform:read"
    PLATFORM_WRITE = "platform:write"
    # service tokens only
    ALERTS_WRITE = "alerts:write"
    AUDIT_WRITE = "audit:write"
    GEOIP_READ = "geoip:read"
    GEOIP_CONTROL = "geoip:control"
    RATES_READ = "rates:read"
    RECIPIENTS_READ = "recipients:read"
    ACCESS_READ = "access:read"
    KEY_USE_WRITE = "key_use:write"
    NOTICES_WRITE = "notices:write"


API_KEY_SCOPES = (
    Scope.SCORE_WRITE,
    Scope.DECISIONS_READ,
    Scope.ALERTS_READ,
    Scope.AUDIT_READ,
    Scope.USAGE_READ,
)
"""What an API key may be given: what programs do, and nothing about people or other keys."""


class ServiceTokenRequest(Contract):
    """Client credentials of one of our services."""

    client_id: Identifier
    client_secret: SecretStr


class ServiceToken(Contract):
    """A bearer token for calls between services."""

    access_token: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's scheme name, no secret
    expires_in: int = Field(gt=0)
