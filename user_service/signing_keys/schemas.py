"""A signing key, as operators see it."""

from datetime import datetime

from pydantic import BaseModel, Field

from user_service.signing_keys.schedule import KeyState


class SigningKeyView(BaseModel):
    """One key: what it is good for now, and from when to when."""

    kid: str
    state: KeyState = Field(description="waiting: published, does not sign yet; retiring: signs no more")
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None = Field(description="when tokens that it signed are refused")


class SigningKeyPage(BaseModel):
    """Some keys, newest first; `next_cursor` is null on the last page."""

    items: list[SigningKeyView]
    next_cursor: str | None
