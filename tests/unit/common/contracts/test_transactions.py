"""Every value is stored exactly or refused: research cases A to E of the test plan, by name."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.canonical import canonical_bytes
from common.contracts.currencies import EXPONENTS, MAX_AMOUNT_MINOR, to_major
from common.contracts.transactions import MAX_METADATA_KEYS, Transaction
from common.strict_json import loads
from tests.factories import make_transaction, transaction_body

CARD = "4111111111111111"


def problems(**changes: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    """Return the messages that refuse `changes`; none of them may hold a value that was sent."""
    with pytest.raises(ValidationError) as caught:
        make_transaction(**changes)
    return [str(problem["msg"]) for problem in caught.value.errors()]


def from_json(**changes: Any) -> Transaction:  # noqa: ANN401 - any JSON value
    return Transaction.model_validate(loads(json.dumps(transaction_body(**changes)).encode()))


class TestAmount:
    @pytest.mark.parametrize(
        ("amount", "minor"),
        [
            ("25.00", 2500),
            ("25", 2500),
            ("0.1", 10),
            ("0", 0),
            ("0.00", 0),
            ("00010", 1000),
            ("10.000000000000000000", 1000),
            (Decimal("1.05"), 105),
            (Decimal("-0.0"), 0),
            (Decimal("1E+3"), 100_000),
            (Decimal("10." + "0" * 50), 1000),
            (7, 700),
            ("10000000000000", MAX_AMOUNT_MINOR),
            (10**13, MAX_AMOUNT_MINOR),
        ],
    )
    def test_is_kept_exactly(self, amount: object, minor: int) -> None:
        transaction = make_transaction(amount=amount)

        assert transaction.amount_minor == minor
        assert transaction.canonical["amount"] == str(to_major(minor, "EUR"))

    @pytest.mark.parametrize(
        "amount",
        [
            "NaN", "nan", "inf", "Infinity", "1e400", "1e2", "-1", "-0", "+1", "0x10", "1_000", " 5 ", "5 ", "5\n",
            "٥", "５", "1,000.50", "", ".", ".5", "5.", "1.2.3", "\ud800", "5\x00", "1" * 17, "0." + "1" * 19,
            True, False, [], {}, ["5"], 5.0, float("nan"),
            Decimal("NaN"), Decimal("Infinity"), Decimal(-1), -1, Decimal("1E+400"), Decimal("1E+999999999"),
            Decimal("1E-999999999"), 10**400,
        ],
    )  # fmt: skip
    def test_is_refused_when_it_is_no_plain_number(self, amount: object) -> None:
        assert problems(amount=amount)

    @pytest.mark.parametrize(
        "amount",
        [
            "1.005",
            "0.001",
            Decimal("0.1000000000000000055511151231257827"),
            Decimal("10.00000000000000000000000000000000000001"),
            "1000000000000.000000000000000001",
            Decimal("1000000000000.000000000000000001"),
            Decimal("1E-320"),
        ],
    )
    def test_is_refused_rather_than_rounded(self, amount: object) -> None:
        assert problems(amount=amount) == ["Value error, the amount has more decimals than its currency"]

    @pytest.mark.parametrize(
        ("currency", "amount"),
        [
            ("EUR", "10000000000000.01"),
            ("EUR", 10**13 + 1),
            ("JPY", 10**15 + 1),
            ("KWD", "1000000000000.001"),
            ("EUR", "9999999999999999"),
        ],
    )
    def test_is_refused_beyond_ten_to_the_fifteen_minor_units(self, currency: str, amount: object) -> None:
        assert problems(currency=currency, amount=amount)

    @pytest.mark.parametrize(
        ("currency", "amount", "minor"),
        [
            ("JPY", "500", 500),
            ("JPY", "500.00", 500),
            ("JPY", 10**15, 10**15),
            ("KWD", "1.234", 1234),
            ("KWD", "1000000000000.000", 10**15),
            ("USD", "1.23", 123),
        ],
    )
    def test_counts_the_minor_units_of_its_currency(self, currency: str, amount: object, minor: int) -> None:
        assert make_transaction(currency=currency, amount=amount).amount_minor == minor

    @pytest.mark.parametrize(
        ("currency", "amount"),
        [("JPY", "10.5"), ("JPY", Decimal("0.1")), ("KWD", "1.2345"), ("USD", "1.234")],
    )
    def test_has_no_more_decimals_than_its_currency(self, currency: str, amount: object) -> None:
        assert problems(currency=currency, amount=amount) == [
            "Value error, the amount has more decimals than its currency"
        ]

    @pytest.mark.parametrize("currency", ["", "eur", "EURO", "XXX", "XAU", "EU", 978, None, "€", "\ud800"])
    def test_needs_an_active_currency(self, currency: object) -> None:
        body = {**transaction_body(), "currency": currency}

        with pytest.raises(ValidationError):
            Transaction.model_validate(body)

    @given(
        minor=st.integers(0, MAX_AMOUNT_MINOR),
        currency=st.sampled_from(sorted(EXPONENTS)),
        zeros=st.integers(0, 3),
        as_text=st.booleans(),
    )
    def test_any_accepted_amount_comes_back_exactly(
        self,
        minor: int,
        currency: str,
        zeros: int,
        as_text: bool,  # noqa: FBT001 - hypothesis gives it
    ) -> None:
        text = str(to_major(minor, currency))
        padded = text + ("." if zeros and "." not in text else "") + "0" * zeros

        transaction = Transaction.model_validate(
            {
                **transaction_body(currency=currency),
                "amount": padded if as_text else loads(padded.encode()),
            }
        )

        assert transaction.amount_minor == minor
        assert transaction.canonical["amount"] == text
        assert loads(transaction.body)["amount"] == text

    @given(st.decimals(allow_nan=True, allow_infinity=True) | st.integers() | st.text(max_size=30))
    def test_anything_else_is_refused_or_equal(self, amount: object) -> None:
        try:
            transaction = make_transaction(amount=amount)
        except ValidationError:
            return

        assert transaction.amount_minor == Decimal(str(amount)) * 100


class TestBody:
    @pytest.mark.parametrize("amount", ["10.0", "10.00", "10", 10, Decimal("10.0"), Decimal("1E+1"), "010"])
    def test_is_the_same_however_the_amount_is_written(self, amount: object) -> None:
        assert make_transaction(amount=amount).body == make_transaction(amount="10.00").body

    @pytest.mark.parametrize(
        "event_time",
        [
            "2026-11-02T12:00:00Z",
            "2026-11-02t12:00:00z",
            "2026-11-02 12:00:00.000+00:00",
            "2026-11-02T12:00:00-00:00",
        ],
    )
    def test_is_the_same_however_the_time_is_written(self, event_time: str) -> None:
        assert make_transaction(event_time=event_time).body == make_transaction().body

    def test_is_the_same_however_the_address_is_written(self) -> None:
        written = make_transaction(ip_address="2001:0DB8:0:0::1")

        assert written.body == make_transaction(ip_address="2001:db8::1").body

    def test_is_the_same_in_any_order_of_fields(self) -> None:
        turned = dict(reversed(transaction_body().items()))

        assert Transaction.model_validate(turned).body == make_transaction().body

    def test_differs_when_the_offset_does(self) -> None:
        local = make_transaction(event_time="2026-11-02T13:00:00+01:00")

        assert local.event_time == make_transaction().event_time
        assert local.body != make_transaction().body

    @pytest.mark.parametrize(
        "changes", [{"amount": "25.01"}, {"customer_id": "x"}, {"metadata": {"a": 1}}, {"channel": None}]
    )
    def test_differs_when_a_value_does(self, changes: dict[str, Any]) -> None:
        assert make_transaction(**changes).body != make_transaction().body

    def test_holds_no_absent_fields(self) -> None:
        assert loads(make_transaction().body).keys() == transaction_body().keys()

    def test_reads_back_as_the_same_transaction(self) -> None:
        transaction = make_transaction(
            metadata={"a": True, "b": 1, "c": Decimal("1.5"), "d": "x"},
            location={"latitude": 52, "longitude": Decimal("13.4")},
        )

        assert Transaction.model_validate(loads(transaction.body)).body == transaction.body
        assert Transaction.model_validate_json(transaction.body).body == transaction.body


OPTIONAL_TEXT = st.none() | st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=40
)
PLACES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "city": OPTIONAL_TEXT,
        "region": OPTIONAL_TEXT,
        "country": st.sampled_from([None, "DE", "BR"]),
        "latitude": st.none() | st.integers(-90, 90) | st.floats(-90, 90),
        "longitude": st.none() | st.integers(-180, 180) | st.floats(-180, 180),
    },
)
METADATA = st.none() | st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    st.booleans() | st.integers(-(10**15), 10**15) | st.floats(-1e15, 1e15) | OPTIONAL_TEXT.filter(bool),
    max_size=8,
)
TIMES = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001 - the strategy adds an offset
    datetime(2998, 12, 31),  # noqa: DTZ001
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


def plain_canonical(transaction: Transaction) -> dict[str, Any]:
    """Return the canonical form as the model's own serializer has it."""
    found: dict[str, Any] = transaction.model_dump(mode="json", exclude_none=True)
    found["amount"] = str(to_major(transaction.amount_minor, transaction.currency))
    found["event_time"] = transaction.event_time.isoformat()
    return found


class TestCanonicalForm:
    @settings(max_examples=400)
    @given(
        minor=st.integers(0, MAX_AMOUNT_MINOR),
        currency=st.sampled_from(["EUR", "JPY", "KWD"]),
        changes=st.fixed_dictionaries(
            {"event_time": TIMES.map(datetime.isoformat)},
            optional={
                "customer_id": OPTIONAL_TEXT.filter(bool),
                "user_agent": OPTIONAL_TEXT,
                "channel": st.sampled_from([None, "web", "pos"]),
                "transaction_type": st.sampled_from(["payment", "refund"]),
                "ip_address": st.none() | st.ip_addresses().map(str),
                "payment_method": st.sampled_from(
                    [None, {}, {"type": None}, {"type": "card", "card_bin": "411111"}]
                ),
                "location": PLACES,
                "merchant_location": PLACES,
                "metadata": METADATA,
            },
        ),
    )
    def test_is_what_the_model_itself_writes(
        self, minor: int, currency: str, changes: dict[str, Any]
    ) -> None:
        body = {
            **transaction_body(),
            **changes,
            "currency": currency,
            "amount": str(to_major(minor, currency)),
        }
        try:
            transaction = Transaction.model_validate(body)
        except ValidationError:  # a card number by chance, or a float that is not kept
            return

        assert transaction.canonical == plain_canonical(transaction)
        assert list(transaction.canonical) == list(plain_canonical(transaction))
        assert transaction.body == canonical_bytes(plain_canonical(transaction))

    def test_is_the_same_for_one_that_was_not_checked(self) -> None:
        checked = make_transaction(metadata={"a": 1}, location={"city": "Köln"})

        made = Transaction.model_construct(
            **{name: getattr(checked, name) for name in Transaction.model_fields}
        )

        assert made.body == checked.body
        assert made.amount_minor == checked.amount_minor


class TestUnknownFields:
    @pytest.mark.parametrize(
        "name",
        [
            "is_admin", "risk_score", "institution_id", "tenant_id", "amount_minor", "body", "canonical",
            "__class__", "__proto__", "constructor", "prototype", "__init__", "model_config", "Amount", "amount ",
            "", "\ud800", "a\x00",
        ],
    )  # fmt: skip
    def test_are_refused(self, name: str) -> None:
        assert problems(**{name: 1})

    @pytest.mark.parametrize("part", ["payment_method", "location", "billing_location", "merchant_location"])
    def test_are_refused_in_parts_too(self, part: str) -> None:
        assert problems(**{part: {"is_admin": True}})

    @pytest.mark.parametrize(
        "name", ["transaction_id", "event_time", "amount", "currency", "transaction_type", "customer_id"]
    )
    def test_a_required_one_cannot_be_missing(self, name: str) -> None:
        assert problems(**{name: None}) == ["Field required"]

    @pytest.mark.parametrize("body", [None, [], "x", 1, True, [transaction_body()]])
    def test_a_transaction_is_an_object(self, body: object) -> None:
        with pytest.raises(ValidationError):
            Transaction.model_validate(body)

    @pytest.mark.parametrize("value", ["payments", "PAYMENT", "", "\ud800", 1, None, ["payment"], True])
    def test_closed_sets_stay_closed(self, value: object) -> None:
        with pytest.raises(ValidationError):
            Transaction.model_validate({**transaction_body(), "transaction_type": value})
        with pytest.raises(ValidationError):
            Transaction.model_validate({**transaction_body(), "channel": value or "x"})


IDENTIFIERS = (
    "transaction_id",
    "customer_id",
    "account_id",
    "session_id",
    "merchant_id",
    "merchant_category",
    "counterparty_id",
    "device_id",
    "original_transaction_id",
)
INVISIBLE = {
    "nul": "\x00",
    "newline": "\n",
    "carriage return": "\r",
    "tab": "\t",
    "escape": "\x1b",
    "delete": "\x7f",
    "next line": "\x85",
    "bidi override": "\u202e",
    "bidi isolate": "\u2066",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "lone high surrogate": "\ud800",
    "lone low surrogate": "\udfff",
    "private use": "\ue000",
    "unassigned": "\u0378",
    "noncharacter": "\uffff",
    "tag": "\U000e0041",
}


class TestIdentifiers:
    @pytest.mark.parametrize("field", IDENTIFIERS)
    @pytest.mark.parametrize("value", ["a", "a" * 64, "é" * 64, "😀" * 64])
    def test_have_one_to_sixty_four_characters(self, field: str, value: str) -> None:
        assert from_json(**{field: value}).canonical[field] == value

    @pytest.mark.parametrize("field", IDENTIFIERS)
    @pytest.mark.parametrize("value", ["", "a" * 65, "😀" * 65, "a" * 1_000_000, 1, True, ["a"], {"a": "b"}])
    def test_are_refused_when_empty_long_or_no_text(self, field: str, value: object) -> None:
        assert problems(**{field: value})

    @pytest.mark.parametrize("field", IDENTIFIERS)
    @pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
    def test_have_no_invisible_characters(self, field: str, character: str) -> None:
        for value in (character, f"a{character}b", f"a{character}", f"{character}b"):
            assert problems(**{field: value})

    @pytest.mark.parametrize(
        "value",
        [
            "' OR 1=1--", "'; DROP TABLE decisions;--", "%00", "%n%s", "${jndi:ldap://x}", "{{7*7}}",
            "<script>alert(1)</script>", "javascript:alert(1)", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)",
            "../../etc/passwd", "null", "undefined", "true", "Ⅷ", "раураl", "İSTANBUL", "ß", "e\u0301" * 30, "a b", " ",
        ],
    )  # fmt: skip
    def test_are_otherwise_kept_as_they_are(self, value: str) -> None:
        assert loads(make_transaction(customer_id=value).body)["customer_id"] == value

    @given(st.text(min_size=1, max_size=70))
    def test_any_text_is_refused_or_kept(self, value: str) -> None:
        try:
            transaction = make_transaction(customer_id=value)
        except ValidationError:
            return

        assert loads(transaction.body)["customer_id"] == value
        assert value.splitlines() == [value]


class TestOtherText:
    @pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
    @pytest.mark.parametrize(
        "changes",
        [
            lambda text: {"user_agent": text},
            lambda text: {"email": f"{text}@example.org"},
            lambda text: {"phone_number": f"+49 30 {text}"},
            lambda text: {"billing_country": text},
            lambda text: {"payment_method": {"type": text}},
            lambda text: {"payment_method": {"card_token": text}},
            lambda text: {"payment_method": {"card_bin": text}},
            lambda text: {"location": {"city": text}},
            lambda text: {"location": {"region": text}},
            lambda text: {"metadata": {"key": text}},
            lambda text: {"metadata": {text: 1}},
            lambda text: {"metadata": {f"key{text}": 1}},
            lambda text: {"transaction_type": text},
            lambda text: {"currency": text},
            lambda text: {"channel": text},
            lambda text: {"amount": text},
            lambda text: {"event_time": text},
            lambda text: {"ip_address": text},
        ],
    )
    def test_has_no_invisible_characters(self, changes: Any, character: str) -> None:  # noqa: ANN401 - a function
        assert problems(**changes(f"a{character}"))

    @pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
    @pytest.mark.parametrize("number", ["5", "-0", "1.5", "1_000", "1e300", "9" * 24])
    def test_has_none_in_metadata_where_a_number_would_be_left(self, number: str, character: str) -> None:
        for text in (f"{number}{character}", f"{character}{number}", f" {character} {number}"):
            assert problems(metadata={"note": text})

    @pytest.mark.parametrize(
        "text", ["9" * 257, "0" * 256 + "5", "0." + "1" * 300, "9" * 4400, " " * 256 + "5"]
    )
    def test_in_metadata_is_not_read_as_a_number_when_it_is_too_long(self, text: str) -> None:
        assert problems(metadata={"note": text})

    def test_that_cannot_be_written_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(_value: object) -> bytes:
            raise TypeError("Integer exceeds 64-bit range")

        monkeypatch.setattr("common.contracts.transactions.canonical_bytes", fails)

        assert problems() == ["Value error, a value cannot be kept exactly"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"user_agent": "a" * 512},
            {"email": "a" * 242 + "@example.org"},
            {"phone_number": "+49 (30) 123-45.67"},
            {"billing_country": "DE"},
            {"payment_method": {"card_bin": "411111", "card_last4": "1111", "card_country": "US"}},
            {"payment_method": {"card_bin": "41111111"}},
            {"location": {"city": "São Paulo", "region": "SP", "country": "BR"}},
        ],
    )
    def test_is_kept_within_its_limits(self, changes: dict[str, Any]) -> None:
        canonical = make_transaction(**changes).canonical

        assert {name: canonical[name] for name in changes} == changes

    @pytest.mark.parametrize(
        "changes",
        [
            {"user_agent": "a" * 513},
            {"user_agent": ""},
            {"email": "nobody"},
            {"email": "a@b@c"},
            {"email": "a" * 243 + "@example.org"},
            {"phone_number": "call me"},
            {"phone_number": "1" * 40},
            {"billing_country": "de"},
            {"billing_country": "DEU"},
            {"payment_method": {"card_bin": "4111111"}},
            {"payment_method": {"card_last4": "111"}},
            {"payment_method": "card"},
            {"location": {"city": "a" * 257}},
            {"location": {"city": ""}},
            {"location": []},
        ],
    )
    def test_is_refused_beyond_them(self, changes: dict[str, Any]) -> None:
        assert problems(**changes)


class TestCardNumbers:
    def test_are_not_looked_for_at_length_because_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[object] = []
        monkeypatch.setattr("common.contracts.transactions._refuse_card_numbers", looked.append)

        make_transaction(event_time="2026-11-02T14:03:22.123456+01:00", metadata={"at": "2026-11-02"})

        assert looked == []

    def test_are_found_in_a_text_that_ends_with_the_time(self) -> None:
        event_time = "2026-11-02T14:03:22+01:00"

        assert problems(event_time=event_time, customer_id=f"4111 1111 1105 {event_time}")

    @pytest.mark.parametrize(
        "number",
        [
            CARD,
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111  1111 - 1111 1111",
            " 4111111111111111",
            "4111111111111111 ",
            "4111_1111_1111_1111",
            "4111\u00a01111\u00a01111\u00a01111",
            "4111–1111–1111–1111",
            "４１１１１１１１１１１１１１１１",
            "4222222222222",
            "378282246310005",
            "6304000000000000",
            "6011000990139424123"[:16],
            "4111,1111,1111,1111",
            "4111\u00b71111\u00b71111\u00b71111",
            "x4111 1111 1111 1111",
            "㊶⑪⑪⑪⑪⑪⑪⑪",
        ],
    )
    def test_are_refused_in_place_of_a_token(self, number: str) -> None:
        assert problems(payment_method={"card_token": number}) == [
            "Value error, this is a card number; send your own token for the card instead"
        ]

    @pytest.mark.parametrize(
        "number",
        [CARD, "4111 1111 1111 1111", "378282246310005", 378282246310005, Decimal("378282246310005.0")],
    )
    @pytest.mark.parametrize("key", ["note", "amount", "event_time", "ip_address"])
    def test_are_refused_in_metadata(self, key: str, number: object) -> None:
        assert "Value error, this is a card number; send your own token for the card instead" in problems(
            metadata={key: number}
        )

    @pytest.mark.parametrize(
        "token",
        [
            "tok_4111",
            "4111111111111112",
            "411111111111",
            "41111111111111111111",
            "visa-1111",
        ],
    )
    def test_are_told_from_tokens(self, token: str) -> None:
        assert from_json(payment_method={"card_token": token}).payment_method.card_token == token  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "value", [1767225600000, "2026-11-02 14:03:22", "1767225600.123456", 999_999_999_999_999]
    )
    def test_are_told_from_times_and_counts(self, value: object) -> None:
        assert from_json(metadata={"at": value}).metadata == {"at": value}


def only(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: text}


FREE_FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    **{name: only(name) for name in IDENTIFIERS},
    "user_agent": lambda text: {"user_agent": f"Mozilla/5.0 {text}"},
    "email": lambda text: {"email": f"{text.replace(' ', '')}@example.org"},
    "phone_number": lambda text: {"phone_number": text},
    "payment_method.type": lambda text: {"payment_method": {"type": text}},
    "payment_method.card_token": lambda text: {"payment_method": {"card_token": text}},
    "location.city": lambda text: {"location": {"city": text}},
    "merchant_location.region": lambda text: {"merchant_location": {"region": text}},
    "metadata.note": lambda text: {"metadata": {"note": f"paid with {text}"}},
    "metadata.nothing": lambda text: {"metadata": {"nothing": 0, "note": text}},
    "metadata": lambda _text: {"metadata": {"k4111111111111111": 1}},
}


class TestCardNumbersInFreeText:
    @pytest.mark.parametrize("field", FREE_FIELDS)
    @pytest.mark.parametrize("number", [CARD, "4111 1111 1111 1111", "5555-5555-5555-4444"])
    def test_are_refused_and_the_field_is_named(self, field: str, number: str) -> None:
        with pytest.raises(ValidationError) as caught:
            make_transaction(**FREE_FIELDS[field](number))

        named = {problem["loc"] for problem in caught.value.errors()}
        assert named == {tuple(field.replace("nothing", "note").split("."))}
        assert number not in str(caught.value)
        assert CARD not in str(caught.value)

    @pytest.mark.parametrize("number", ["+4915112345678", "+49 151 1234 5678", "0049 151 12345678"])
    def test_are_told_from_phone_numbers(self, number: str) -> None:
        for last in range(10):
            text = number[:-1] + str(last)

            assert make_transaction(phone_number=text).phone_number == text

    def test_are_told_from_ids(self) -> None:
        changes = {
            "transaction_id": "550e8400-e29b-41d4-a716-446655440000",
            "counterparty_id": "BE68539007547034",
            "device_id": "4111111111111111aaaaaaaaaaaaaaaa",
            "session_id": "1767225600000000000",
            "metadata": {"account_created_at": 1767225600000},
        }

        canonical = make_transaction(**changes).canonical

        assert {name: canonical[name] for name in changes} == changes


class TestMetadata:
    @pytest.mark.parametrize(
        "value",
        [
            True,
            False,
            0,
            1,
            -1,
            10**15,
            1.5,
            -0.5,
            0.1,
            1e-7,
            0.30000000000000004,
            "5",
            "true",
            "null",
            "x" * 256,
            "1.0",
        ],
    )
    def test_keeps_value_and_type(self, value: object) -> None:
        kept = loads(from_json(metadata={"key": value}).body)["metadata"]["key"]

        assert kept == (Decimal(repr(value)) if isinstance(value, float) else value)
        assert isinstance(kept, bool) is isinstance(value, bool)

    @pytest.mark.parametrize(
        "value",
        [
            None, [], {}, [1], {"a": 1}, "", "x" * 257, 10**15 + 1, -(10**15) - 1, 10**400,
            Decimal("1E+400"), Decimal("1E-400"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), float("inf"), float("nan"),
            Decimal("0.1000000000000000055511151231257827"),
        ],
    )  # fmt: skip
    def test_refuses_what_cannot_be_kept(self, value: object) -> None:
        assert problems(metadata={"key": value})

    @pytest.mark.parametrize("key", ["a", "login_count", "a" * 64, "constructor", "a1_"])
    def test_takes_keys_that_features_could_read(self, key: str) -> None:
        assert from_json(metadata={key: 1}).metadata == {key: 1}

    @pytest.mark.parametrize(
        "key", ["", "A", "1a", "_a", "__proto__", "a-b", "a.b", "a b", "a" * 65, "é", "a\n", "\ud800"]
    )
    def test_refuses_other_keys(self, key: str) -> None:
        assert problems(metadata={key: 1})

    def test_has_a_most_number_of_keys(self) -> None:
        full = {f"key_{number}": number for number in range(MAX_METADATA_KEYS)}

        assert make_transaction(metadata=full).metadata == full
        assert problems(metadata={**full, "more": 1})


class TestCoordinates:
    @pytest.mark.parametrize(
        ("latitude", "longitude"),
        [(90, 180), (-90, -180), (0, 0), (52.520006599999995, 13.404954), (-0.5, 1e-9)],
    )
    def test_are_kept(self, latitude: float, longitude: float) -> None:
        place = from_json(location={"latitude": latitude, "longitude": longitude}).location

        assert place is not None
        assert (place.latitude, place.longitude) == (latitude, longitude)

    @pytest.mark.parametrize(
        "value",
        [
            True, "52.5", " 52 ", "5_2", "nan", [], {}, 181, -181, Decimal("180.0000001"), 10**400,
            float("nan"), float("inf"), Decimal("NaN"), Decimal("1E-400"), Decimal("52.5200000000000000000001"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("name", ["latitude", "longitude"])
    @pytest.mark.parametrize(
        "place", ["location", "billing_location", "shipping_location", "merchant_location"]
    )
    def test_are_refused_when_they_are_no_place(self, place: str, name: str, value: object) -> None:
        assert problems(**{place: {name: value}})


class TestEventTime:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-11-02T14:03:22+01:00", "2026-11-02T14:03:22+01:00"),
            ("2026-11-02T14:03:22.1Z", "2026-11-02T14:03:22.100000+00:00"),
            ("2026-11-02T14:03:22.123456-05:30", "2026-11-02T14:03:22.123456-05:30"),
            ("2024-02-29T23:59:59+14:00", "2024-02-29T23:59:59+14:00"),
            ("2026-03-29T02:30:00+01:00", "2026-03-29T02:30:00+01:00"),
            ("1971-01-01T00:00:00Z", "1971-01-01T00:00:00+00:00"),
            ("2998-12-31T23:59:59-12:00", "2998-12-31T23:59:59-12:00"),
        ],
    )
    def test_keeps_moment_and_offset(self, text: str, moment: str) -> None:
        assert make_transaction(event_time=text).canonical["event_time"] == moment

    @pytest.mark.parametrize(
        "value",
        [
            "2026-11-02T14:03:22", "2026-11-02", "14:03:22Z", 1767225600, 1767225600000, "1767225600", 10**30,
            Decimal("1767225600.5"), "NaN", "inf", "", "now", "0000-01-01T00:00:00Z", "1970-01-01T00:00:00Z",
            "2999-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2026-12-31T23:59:60Z", "2026-11-02T24:00:00Z",
            "2026-11-02T14:03:22+25:00", "2026-11-02T14:03:22+15:00", "2026-11-02T14:03:22+01:60",
            "2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z",
            "2026-11-02T14:03Z", "2026-1-2T14:03:22Z", "26-11-02T14:03:22Z", "2026-11-02T14:03:22.1234567Z",
            "2026-11-02T14:03:22.Z", "2026-11-02T14:03:22 Z", "2026-11-02T14:03:22+0100", "2026-W45-1T00:00:00Z",
            "2026-11-02T14:03:22Z\n", " 2026-11-02T14:03:22Z", "２０２６-11-02T14:03:22Z", "2026-11-02T14:03:22Z" + "0" * 100,
            True, [], {}, datetime(2026, 11, 2, 14, 3, 22),  # noqa: DTZ001 - a naive one is the point
        ],
    )  # fmt: skip
    def test_is_refused_when_it_names_no_single_moment(self, value: object) -> None:
        assert problems(event_time=value)

    def test_refusals_do_not_repeat_the_time(self) -> None:
        for value in ("2026-02-30T01:02:03Z", "9876-02-30T01:02:03Z", "canary", "2026-11-02T99:00:00Z"):
            assert value not in str(problems(event_time=value))

    @given(st.datetimes(datetime(1971, 1, 2), datetime(2998, 12, 30)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
    def test_any_moment_comes_back(self, moment: datetime, minutes: int) -> None:
        sign = "-" if minutes < 0 else "+"
        text = f"{moment.isoformat()}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        assume(len(moment.isoformat()) >= 19)

        kept = make_transaction(event_time=text).event_time

        assert kept.replace(tzinfo=None) == moment
        assert kept.utcoffset() == timedelta(minutes=minutes)


class TestIpAddress:
    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("81.2.69.160", "81.2.69.160"),
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("100.64.0.1", "100.64.0.1"),
            ("169.254.169.254", "169.254.169.254"),
            ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - an address to be scored, not to listen on
            ("224.0.0.1", "224.0.0.1"),
            ("255.255.255.255", "255.255.255.255"),
            ("198.51.100.7", "198.51.100.7"),
            ("::1", "::1"),
            ("::", "::"),
            ("fe80::1", "fe80::1"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("64:ff9b::7f00:1", "64:ff9b::7f00:1"),
            ("2002:7f00:1::", "2002:7f00:1::"),
        ],
    )
    def test_is_one_address_in_text_form(self, text: str, kept: str) -> None:
        assert make_transaction(ip_address=text).canonical["ip_address"] == kept

    @pytest.mark.parametrize(
        "value",
        [
            2130706433, Decimal(1), True, "2130706433", "0177.0.0.1", "127.1", "0x7f.1", "0x7f000001", "1.2.3.4:80",
            "1.2.3.4/32", "1.2.3.4/../admin", "255.255.255.256", "1.2.3", "", "localhost", "example.org", "fe80::1%eth0",
            "fe80::1%<script>", "[::1]", "[::1]:80", "::1/128", "1.2.3.4, 5.6.7.8", " 1.2.3.4", "1.2.3.4\n", "１.2.3.4",
            "١.2.3.4", "1.2.3.4\x00", "2001:db8::1::", "1::2::3", "12345::", ":" * 100, "1" * 1000, [], {}, ["1.2.3.4"],
        ],
    )  # fmt: skip
    def test_is_nothing_else(self, value: object) -> None:
        assert problems(ip_address=value)

    @given(st.ip_addresses())
    def test_any_address_comes_back(self, address: object) -> None:
        plain = getattr(address, "ipv4_mapped", None) or address

        assert make_transaction(ip_address=str(address)).ip_address == plain
        assert make_transaction(ip_address=plain).ip_address == plain


class TestErrors:
    @pytest.mark.parametrize(
        "field", [name for name in Transaction.model_fields if name not in {"metadata", "location"}]
    )
    def test_hold_nothing_that_was_sent(self, field: str) -> None:
        with pytest.raises(ValidationError) as caught:
            make_transaction(**{field: "canary\x00canary"})

        assert "canary" not in str(caught.value)
        assert "canary" not in "".join(str(problem["msg"]) for problem in caught.value.errors())
