"""A transaction as callers send it to be scored."""

import re
from datetime import datetime
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, StrictBool, model_validator

from common.canonical import canonical_bytes
from common.contracts.currencies import EXPONENTS, MAX_AMOUNT_MINOR
from common.contracts.fields import ONE_LINE, Contract, Country, Identifier, Text
from common.contracts.institutions import Currency

_AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,18})?\Z")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,6})?([Zz]|[+-](?:0\d|1[0-4]):[0-5]\d)\Z", re.ASCII
)
_CARD_SEPARATORS = re.compile(r"[\s_\-\u00ad\u2010-\u2015\u2212]+")
_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
MAX_METADATA_KEYS = 32
SHORTEST_CARD_INTEGER = 14  # thirteen digits are as likely a time in milliseconds


class TransactionType(StrEnum):
    """What is done; the direction of the money follows from it."""

    PAYMENT = "payment"
    TRANSFER = "transfer"
    WITHDRAWAL = "withdrawal"
    DEPOSIT = "deposit"
    REFUND = "refund"


class Channel(StrEnum):
    """Where the transaction was started."""

    WEB = "web"
    MOBILE = "mobile"
    POS = "pos"
    ATM = "atm"
    API = "api"


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
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value
    matched = _TIME.fullmatch(value) if isinstance(value, str) and len(value) <= 40 else None
    if matched is None:
        raise ValueError("the time is RFC 3339 with an offset, e.g. 2026-11-02T14:03:22.120+01:00")
    time = datetime.fromisoformat(matched.string.upper().replace(" ", "T"))
    if not _FIRST_YEAR < time.year < _LAST_YEAR:
        raise ValueError("the year is out of range")
    return time


def _ip_address(value: object) -> IPv4Address | IPv6Address:
    """Take one address in text form, without zone, port or prefix; IPv4 mapped into IPv6 is that IPv4 address."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str) or len(value) > 45 or "%" in value:
        raise ValueError("the address is one IPv4 or IPv6 address in text form")
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError("the address is one IPv4 or IPv6 address in text form") from None
    return getattr(address, "ipv4_mapped", None) or address


def _not_a_card_number(value: object) -> object:
    if isinstance(value, str):
        digits = _CARD_SEPARATORS.sub("", value)
        if 13 <= len(digits) <= 19 and digits.isdecimal() and _passes_luhn(digits):
            raise ValueError("this is a card number; send your own token for the card instead")
    return value


def _passes_luhn(text: str) -> bool:
    digits = [int(character) for character in reversed(text)]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


Amount = Annotated[Decimal, BeforeValidator(_amount), PlainSerializer(str, return_type=str)]
EventTime = Annotated[
    datetime,
    BeforeValidator(_event_time, json_schema_input_type=str),
    Field(examples=["2026-11-02T14:03:22+01:00"]),
]
IpAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(_ip_address, json_schema_input_type=str)]
CardToken = Annotated[Identifier, BeforeValidator(_not_a_card_number)]
UserAgent = Annotated[str, Field(min_length=1, max_length=512, pattern=ONE_LINE)]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^\p{C}\s@]+@[^\p{C}\s@]+$")]
Phone = Annotated[str, Field(pattern=r"^\+?[0-9][0-9 ().-]{3,30}$")]
MetadataKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


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
        return _not_a_card_number(value)
    is_nan = isinstance(value, Decimal) and not value.is_finite()
    if is_nan or not -MAX_AMOUNT_MINOR <= value <= MAX_AMOUNT_MINOR:
        raise ValueError("a number is out of range")
    digits = str(int(value))
    if len(digits) >= SHORTEST_CARD_INTEGER:
        _not_a_card_number(digits)
    return _number(value)


MetadataValue = Annotated[StrictBool | int | float | Text, BeforeValidator(_metadata_value)]


class Place(Contract):
    """A place, as far as the caller knows it. Coordinates are WGS 84 degrees."""

    city: Text | None = None
    region: Text | None = None
    country: Country | None = None
    latitude: Annotated[float, Field(ge=-90, le=90), BeforeValidator(_number)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180), BeforeValidator(_number)] | None = None


class PaymentMethod(Contract):
    """How is paid; a card appears only by the caller's own token for it."""

    type: Identifier | None = None
    card_token: CardToken | None = None
    card_bin: Annotated[str, Field(pattern=r"^[0-9]{6}([0-9]{2})?$")] | None = None
    card_last4: Annotated[str, Field(pattern=r"^[0-9]{4}$")] | None = None
    card_country: Country | None = None


class Transaction(Contract):
    """One transaction. `transaction_id` is unique within the institution and makes repeats recognisable."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "order-20261102-7781",
                    "event_time": "2026-11-02T14:03:22+01:00",
                    "amount": "249.90",
                    "currency": "EUR",
                    "transaction_type": "payment",
                    "customer_id": "customer-4711",
                    "merchant_id": "merchant-12",
                    "merchant_category": "electronics",
                    "payment_method": {"type": "card", "card_token": "tok_9f2c", "card_country": "DE"},
                    "channel": "web",
                    "ip_address": "81.2.69.160",
                    "device_id": "device-88",
                    "billing_country": "DE",
                }
            ]
        }
    )

    transaction_id: Identifier
    event_time: EventTime
    amount: Amount
    currency: Currency
    transaction_type: TransactionType
    customer_id: Identifier
    account_id: Identifier | None = None
    session_id: Identifier | None = None
    merchant_id: Identifier | None = None
    merchant_category: Identifier | None = None
    counterparty_id: Identifier | None = None
    payment_method: PaymentMethod | None = None
    channel: Channel | None = None
    ip_address: IpAddress | None = None
    device_id: Identifier | None = None
    user_agent: UserAgent | None = None
    email: Email | None = None
    phone_number: Phone | None = None
    billing_country: Country | None = None
    location: Place | None = None
    billing_location: Place | None = None
    shipping_location: Place | None = None
    merchant_location: Place | None = None
    original_transaction_id: Identifier | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)] | None = None

    @model_validator(mode="after")
    def _amount_fits_its_currency(self) -> Self:
        try:
            minor = _EXACT.scaleb(self.amount, EXPONENTS[self.currency])
        except DecimalException:
            raise ValueError("the amount has too many digits") from None
        if minor != minor.to_integral_value():
            raise ValueError("the amount has more decimals than its currency")
        if minor > MAX_AMOUNT_MINOR:
            raise ValueError("the amount is between 0 and 10^15 minor units")
        return self

    @cached_property
    def amount_minor(self) -> int:
        """Return the amount in the smallest unit of its currency."""
        return int(self.amount.scaleb(EXPONENTS[self.currency]))

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """Return the JSON form in which equal transactions are equal: absent fields left out, amounts normalised."""
        found: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        found["amount"] = str(self.amount.quantize(Decimal(1).scaleb(-EXPONENTS[self.currency])))
        found["event_time"] = self.event_time.isoformat()
        return found

    @cached_property
    def body(self) -> bytes:
        """Return the canonical bytes that decide whether a repeated id carries the same transaction."""
        return canonical_bytes(self.canonical)
