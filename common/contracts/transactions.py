"""A transaction as callers send it to be scored."""

import socket
from collections.abc import Iterator, Mapping
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from common.canonical import canonical_bytes
from common.contracts.card_numbers import (
    SHORTEST,
    holds_card_number,
    is_card_number,
    may_hold_card_number,
)
from common.contracts.currencies import EXPONENTS, MAX_AMOUNT_MINOR
from common.contracts.fields import Contract, Country, Identifier, Text
from common.contracts.institutions import Currency
from common.contracts.transaction_fields import (
    Amount,
    Email,
    EventTime,
    IpAddress,
    Latitude,
    Longitude,
    MetadataKey,
    MetadataValue,
    Phone,
    UserAgent,
)

MAX_METADATA_KEYS = 32
_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
_UNITS: Final = {currency: Decimal(1).scaleb(-exponent) for currency, exponent in EXPONENTS.items()}
_LARGEST: Final = {
    currency: Decimal(MAX_AMOUNT_MINOR).scaleb(-exponent) for currency, exponent in EXPONENTS.items()
}
_NOT_FREE = frozenset({"event_time", "amount", "ip_address", "latitude", "longitude"})
_LONGEST_PHONE_NUMBER = 15  # digits, by E.164


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


class Place(Contract):
    """A place, as far as the caller knows it. Coordinates are WGS 84 degrees."""

    city: Text | None = None
    region: Text | None = None
    country: Country | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class PaymentMethod(Contract):
    """How is paid; a card appears only by the caller's own token for it."""

    type: Identifier | None = None
    card_token: Identifier | None = None
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
    def _holds_together(self) -> Self:
        """Refuse an amount that its currency does not have, and card numbers wherever text is free.

        What is made on the way is kept: every transaction needs it, and a cached property that is filled costs less
        than one that fills itself.
        """
        made = self.__dict__
        if "body" in made:  # a checked transaction that is checked again, as FastAPI does
            return self
        amount = _exact(self.amount, self.currency)
        made["canonical"] = _canonical(made, amount)
        made["body"] = _canonical_bytes(made["canonical"])
        made["amount_minor"] = int(amount.scaleb(EXPONENTS[self.currency]))
        if may_hold_card_number(_without_time(made["body"], made["canonical"]["event_time"])):
            _refuse_card_numbers(made["canonical"])
        return self

    @cached_property
    def amount_minor(self) -> int:
        """Return the amount in the smallest unit of its currency."""
        return int(self.amount.scaleb(EXPONENTS[self.currency]))

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """Return the JSON form in which equal transactions are equal: absent fields left out, amounts normalised."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return _canonical(values, _exact(self.amount, self.currency))

    @cached_property
    def body(self) -> bytes:
        """Return the canonical bytes that decide whether a repeated id carries the same transaction."""
        return canonical_bytes(self.canonical)


_PARTS: Final = (
    "payment_method",
    "location",
    "billing_location",
    "shipping_location",
    "merchant_location",
)


def _exact(amount: Decimal, currency: str) -> Decimal:
    """Return `amount` with the decimals of `currency`; raises `ValueError` where that would change it."""
    try:
        exact = _EXACT.quantize(amount, _UNITS[currency])
    except Inexact:
        raise ValueError("the amount has more decimals than its currency") from None
    except DecimalException:
        raise ValueError("the amount has too many digits") from None
    if exact > _LARGEST[currency]:
        raise ValueError("the amount is between 0 and 10^15 minor units")
    return exact


def _canonical(values: Mapping[str, Any], amount: Decimal) -> dict[str, Any]:
    """Return what `model_dump` makes of a transaction's `values`, in a third of the time."""
    found = {name: value for name, value in values.items() if value is not None}
    found["event_time"] = orjson.dumps(found["event_time"])[
        1:-1
    ].decode()  # as `isoformat` has it, but sooner
    found["amount"] = str(amount)
    found["transaction_type"] = found["transaction_type"]._value_
    if "channel" in found:
        found["channel"] = found["channel"]._value_
    if "ip_address" in found:
        found["ip_address"] = _address_text(found["ip_address"])
    for name in _PARTS:
        if name in found:
            part = found[name].__dict__
            found[name] = {inner: value for inner, value in part.items() if value is not None}
    return found


def _canonical_bytes(canonical: Mapping[str, Any]) -> bytes:
    try:
        return canonical_bytes(canonical)
    except TypeError:  # no field takes such a value; if one ever does, it is refused like any other
        raise ValueError("a value cannot be kept exactly") from None


def _without_time(body: bytes, event_time: str) -> bytes:
    """Return `body` without its own time, whose digits would be looked at in vain in every transaction."""
    return body.replace(b'"event_time":"%b"' % event_time.encode(), b"", 1)


def _address_text(address: IPv4Address | IPv6Address) -> str:
    return socket.inet_ntoa(address.packed) if isinstance(address, IPv4Address) else str(address)


def _refuse_card_numbers(canonical: Mapping[str, Any]) -> None:
    """Raise `ValidationError` naming each place that holds a card number."""
    error = ValueError("this is a card number; send your own token for the card instead")
    wrong = [
        InitErrorDetails(type="value_error", loc=place, input=None, ctx={"error": error})
        for place, value in _free_values(
            {name: value for name, value in canonical.items() if type(value) is not str or _is_suspect(value)}
        )
        if _is_card_number_at(place, value)
    ]
    if wrong:
        raise ValidationError.from_exception_data("Transaction", wrong)


def _free_values(found: Mapping[str, Any], *outer: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """Return the values, and of metadata the keys too, that callers fill as they like."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _free_values(value, *outer, name)
        elif name not in _NOT_FREE or outer == ("metadata",):
            yield (*outer, name), value
        if outer == ("metadata",):
            yield outer, name


def _is_suspect(text: str) -> bool:
    utf8 = text.encode()  # one character of them may be several digits
    return len(utf8) >= SHORTEST and may_hold_card_number(utf8)


def _is_card_number_at(place: tuple[str, ...], value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return is_card_number(str(abs(int(value))))
    text = str(value)
    if not _is_suspect(text):
        return False
    if place == ("phone_number",):
        digits = "".join(filter(str.isdigit, text))
        is_international = text.startswith("+") and len(digits) <= _LONGEST_PHONE_NUMBER
        return not is_international and is_card_number(digits)
    return holds_card_number(text)
