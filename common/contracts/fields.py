"""What every message between services, and between us and callers, has in common."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Contract(BaseModel):
    """A frozen message; unknown fields, NaN and Infinity are refused, and error texts hold no values."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _no_number(value: object) -> object:
    """Refuse what would be read as seconds or milliseconds, whichever of them it looks like."""
    if (isinstance(value, str) and value[4:5] != "-") or isinstance(value, int | float):
        message = "the time is RFC 3339 with an offset, e.g. 2026-11-02T14:03:22.120+01:00"
        raise ValueError(message)
    return value


def _aware(value: datetime) -> datetime:
    if value.utcoffset() is None:
        message = "the time needs an offset from UTC"
        raise ValueError(message)
    return value


Timestamp = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(_aware)]
"""An aware point in time, as RFC 3339 on the wire."""

ONE_LINE = r"^[^\p{C}\p{Zl}\p{Zp}]+$"
"""No control, format or unassigned characters, and nothing that ends a line or paragraph."""

Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=ONE_LINE)]
"""1 to 64 characters of one line."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=ONE_LINE)]
"""A short line of text."""

Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
"""An ISO 3166-1 alpha-2 code."""
