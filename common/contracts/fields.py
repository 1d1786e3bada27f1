"""What every message between services, and between us and callers, has in common."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """A frozen message; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _aware(value: datetime) -> datetime:
    if value.utcoffset() is None:
        message = "the time needs an offset from UTC"
        raise ValueError(message)
    return value


Timestamp = Annotated[datetime, AfterValidator(_aware)]
"""An aware point in time, as RFC 3339 on the wire."""

Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\p{C}]+$")]
"""1 to 64 characters, none of them a control, format or unassigned character."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\p{C}]+$")]
"""A short line of text without control or format characters."""

Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
"""An ISO 3166-1 alpha-2 code."""
