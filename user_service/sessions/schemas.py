"""Sessions as their owner sees them."""

from datetime import datetime

from pydantic import BaseModel, Field


class OpenSession(BaseModel):
    """One login that can still be used."""

    session_id: str
    created_at: datetime
    last_used_at: datetime = Field(description="when it last got new tokens")
    expires_at: datetime
    ip_address: str = Field(description="where it was started; empty where that is not known")
    user_agent: str
    current: bool = Field(description="whether this request belongs to it")


class OpenSessions(BaseModel):
    """Some of a user's open sessions, the newest first; `next_cursor` is null on the last page."""

    items: tuple[OpenSession, ...]
    next_cursor: str | None
