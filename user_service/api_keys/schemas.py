"""API keys, as people make and see them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from common.contracts.fields import Contract, Timestamp
from common.contracts.tokens import API_KEY_SCOPES, Scope
from user_service.names import KeyName

MAX_OVERLAP_HOURS = 168


def _for_keys(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    if not set(scopes) <= set(API_KEY_SCOPES):
        message = "a key may have " + ", ".join(scope.value for scope in API_KEY_SCOPES)
        raise ValueError(message)
    return tuple(scope for scope in API_KEY_SCOPES if scope in scopes)


KeyScopes = Annotated[
    tuple[Scope, ...], Field(min_length=1, max_length=len(Scope)), AfterValidator(_for_keys)
]


class KeyState(StrEnum):
    """Whether a key works: `expiring` while it still does, and not for long or with another in its place."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyMaker(StrEnum):
    """What has become of whoever made a key; the key goes on either way."""

    ACTIVE = "active"  # may make keys now
    LOWERED = "lowered"  # has a role that makes none
    DISABLED = "disabled"
    SETTINGS = "settings"  # nobody: the operator's settings name it


class NewApiKey(Contract):
    """A key to be made."""

    name: KeyName = Field(examples=["checkout"])
    scopes: KeyScopes = Field(examples=[["score:write", "decisions:read"]])
    expires_at: Timestamp | None = Field(None, description="without it the key works until it is revoked")


class Rotation(Contract):
    """How long a key goes on beside the one that replaces it."""

    overlap_hours: int = Field(24, ge=0, le=MAX_OVERLAP_HOURS, strict=True)


class ApiKey(BaseModel):
    """A key of the institution; its text is shown only once, when it is made."""

    key_id: str
    name: str
    prefix: str = Field(description="how the key begins")
    scopes: tuple[Scope, ...]
    state: KeyState
    created_at: datetime
    created_by: str = Field(description="the id of who made it")
    maker: KeyMaker = Field(description="whether they could still make one: the key works either way")
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to within seconds")
    replaced_by: str | None


class KeyOfMember(BaseModel):
    """A key that somebody made who may not make any more."""

    key_id: str
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    state: KeyState
    last_used_at: datetime | None


class IssuedApiKey(ApiKey):
    """A key that was just made, with its text."""

    key: str = Field(description="sent as `X-API-Key`; it is not stored and cannot be shown again")


class ApiKeyPage(BaseModel):
    """Keys, newest first; `next_cursor` is null on the last page."""

    items: tuple[ApiKey, ...]
    next_cursor: str | None
