"""The fields that only a transaction has: what is taken, and what is refused rather than guessed or rounded."""

import re
import socket
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, StrictBool, StrictFloat, StrictInt

from common.contracts.currencies import MAX_AMOUNT_MINOR
from common.contracts.fields import ONE_LINE, Text

_AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,18})?\Z")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-](?:0\d|1[0-4]):[0-5]\d)\Z", re.ASCII
)
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
_NO_ADDRESS = "the address is one IPv4 or IPv6 address in text form"


def _amount(value: object) -> Decimal:
    """Take a decimal string or an exact JSON number; refuse signs, exponents in strings, and everything else."""
    if isinstance(value, str):
        if not _AMOUNT.fullmatch(value):
            raise ValueError("the amount is digits, at most one point, and no sign")
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("the amount is a decimal string or a JSON number")
    amount = Decimal(value)
    if not amount.is_finite() or amount < 0 or amount > MAX_AMOUNT_MINOR:
        raise ValueError("the amount is between 0 and 10^15 minor units")
    return amount.copy_abs()  # minus zero is zero


def _event_time(value: object) -> datetime:
    """Take an RFC 3339 string with an offset; the offset is kept."""
    if not isinstance(value, str):
        if isinstance(value, datetime) and value.utcoffset() is not None:
            return value
    elif len(value) <= 40 and _TIME.match(value):
        time = datetime.fromisoformat(value.upper() if value[-1] == "z" else value)
        if not _FIRST_YEAR < time.year < _LAST_YEAR:
            raise ValueError("the year is out of range")
        return time
    raise ValueError("the time is RFC 3339 with an offset, e.g. 2026-11-02T14:03:22.120+01:00")


def _ip_address(value: object) -> IPv4Address | IPv6Address:
    """Take one address in text form, without zone, port or prefix; IPv4 mapped into IPv6 is that IPv4 address."""
    if isinstance(value, str):
        try:
            packed = socket.inet_pton(socket.AF_INET, value)
            if socket.inet_ntoa(packed) == value:  # a libc may take more than the one spelling
                return IPv4Address(int.from_bytes(packed))
        except (OSError, ValueError):
            pass
        if len(value) <= 45 and "%" not in value:
            return _any_ip_address(value)
    elif isinstance(value, IPv4Address | IPv6Address):
        return value
    raise ValueError(_NO_ADDRESS)


def _any_ip_address(value: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    return getattr(address, "ipv4_mapped", None) or address


def _number(value: object) -> int | float:
    """Take a JSON number that a float holds exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("this is a JSON number")
    if not isinstance(value, Decimal):
        return value
    number = float(value)
    if Decimal(repr(number)) != value:
        raise ValueError("the number has more digits than are kept")
    return number


def _metadata_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    is_nan = isinstance(value, Decimal) and not value.is_finite()
    if is_nan or not -MAX_AMOUNT_MINOR <= value <= MAX_AMOUNT_MINOR:
        raise ValueError("a number is out of range")
    return _number(value)


Amount = Annotated[Decimal, BeforeValidator(_amount), PlainSerializer(str, return_type=str)]
EventTime = Annotated[
    datetime,
    BeforeValidator(_event_time, json_schema_input_type=str),
    Field(examples=["2026-11-02T14:03:22+01:00"]),
]
IpAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_ip_address, json_schema_input_type=str)]
UserAgent = Annotated[str, Field(min_length=1, max_length=512, pattern=ONE_LINE)]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^\p{C}\s@]+@[^\p{C}\s@]+$")]
Phone = Annotated[str, Field(pattern=r"^\+?[0-9][0-9 ().-]{3,30}$")]
MetadataKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
# strict: a text that is refused as one must not be read as a number instead
MetadataValue = Annotated[StrictBool | StrictInt | StrictFloat | Text, BeforeValidator(_metadata_value)]
Latitude = Annotated[float, Field(ge=-90, le=90), BeforeValidator(_number)]
Longitude = Annotated[float, Field(ge=-180, le=180), BeforeValidator(_number)]
