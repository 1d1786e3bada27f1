import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.strict_json import MAX_EXPONENT, MAX_NUMBER_CHARACTERS, loads, read_strictly

CANARY = "canary-7391"


def refusal(body: bytes) -> str:
    with pytest.raises(json.JSONDecodeError) as caught:
        loads(body)
    assert caught.value.doc == ""
    return caught.value.msg


class TestWhatIsTaken:
    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b"{}", {}),
            (b" [1, -2, 0] \n", [1, -2, 0]),
            (b'{"a": {"a": null}, "b": [true, false]}', {"a": {"a": None}, "b": [True, False]}),
            ('"Zoë 😀"'.encode(), "Zoë 😀"),
            (b'"\\u005a\\ud83d\\ude00"', "Z😀"),
            (b'{"a": 1, "A": 2}', {"a": 1, "A": 2}),
            (b'{"\\u00e9": 1, "e\\u0301": 2}', {"\u00e9": 1, "e\u0301": 2}),
        ],
    )
    def test_returns_the_value(self, body: bytes, value: object) -> None:
        assert loads(body) == value

    @pytest.mark.parametrize(
        "text", ["0.1000000000000000055511151231257827", "1.005", "10.00", "1E-20", "-0.0"]
    )
    def test_keeps_every_digit_of_a_decimal(self, text: str) -> None:
        value = loads(text.encode())

        assert isinstance(value, Decimal)
        assert str(value) == text

    def test_keeps_integers_beyond_a_float(self) -> None:
        assert loads(b"9007199254740993") == 2**53 + 1

    @given(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=9)
    )
    def test_reads_back_any_decimal_exactly(self, value: Decimal) -> None:
        assert loads(str(value).encode()) == value

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**40), 10**40)
            | st.text(st.characters(codec="utf-8")),
            lambda children: (
                st.lists(children) | st.dictionaries(st.text(st.characters(codec="utf-8")), children)
            ),
            max_leaves=20,
        )
    )
    def test_reads_back_whatever_json_writes(self, value: Any) -> None:  # noqa: ANN401 - any JSON value
        assert loads(json.dumps(value).encode()) == value

    def test_takes_numbers_of_just_the_longest_length(self) -> None:
        assert loads(b"1" * MAX_NUMBER_CHARACTERS) == int("1" * MAX_NUMBER_CHARACTERS)
        assert loads(b"0." + b"1" * (MAX_NUMBER_CHARACTERS - 2)) == Decimal(
            "0." + "1" * (MAX_NUMBER_CHARACTERS - 2)
        )

    def test_takes_exponents_of_just_the_largest_size(self) -> None:
        assert loads(f"1e{MAX_EXPONENT}".encode()) == Decimal(10) ** MAX_EXPONENT
        assert loads(f"1e-{MAX_EXPONENT}".encode()) == Decimal(10) ** -MAX_EXPONENT


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=4)
    ),
    max_leaves=12,
)


class TestTheQuickWay:
    """Most bodies are read by orjson; whatever it would read otherwise than the strict parser goes to that one."""

    @settings(max_examples=500)
    @given(value=JSON_VALUES, ascii_only=st.booleans(), indent=st.none() | st.just(1))
    def test_reads_the_same_values(self, value: Any, ascii_only: bool, indent: int | None) -> None:  # noqa: ANN401, FBT001 - hypothesis gives them
        body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")

        assert outcome(loads, body) == outcome(read_strictly, body)

    @settings(max_examples=1000)
    @given(
        st.lists(
            st.sampled_from(
                [b"{", b"}", b"[", b"]", b'"', b":", b",", b'"a"', b'"b":', b'"a":1', b" ", b"1", b"-0", b"1.0", b"1e5",
                 b"18446744073709551616", b"-", b"null", b"NaN", b"\\", b'\\"', b"\\u0061", b"\\ud800", b"\xc3\xa9", b"\xff", b"\x00"]
            ),
            max_size=14,
        ).map(b"".join)
    )  # fmt: skip
    def test_takes_and_refuses_the_same_texts(self, body: bytes) -> None:
        assert outcome(loads, body) == outcome(read_strictly, body)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"a":1,"a":1}',
            b'{"a":{"b":"c"},"a":{"b":"c"}}',
            b'{"a":"\\"","a":"x"}',
            b'{"\\u0061":1,"a":1}',
            b'[{"a":[],"a":[]}]',
            b'{"":1,"":1}',
        ],
    )
    @pytest.mark.parametrize("exact", [True, False])
    def test_sees_every_key_that_is_there_twice(self, body: bytes, exact: bool) -> None:  # noqa: FBT001 - a parameter
        with pytest.raises(json.JSONDecodeError, match="same key twice"):
            loads(body, exact=exact)

    @pytest.mark.parametrize("body", [b'{"a":1.5,"b":[0.1]}', b'{"a": 1.5, "b": [0.1]}'])
    def test_makes_floats_only_where_that_is_allowed(self, body: bytes) -> None:
        assert loads(body)["a"] == Decimal("1.5")
        assert isinstance(loads(body)["a"], Decimal)
        assert float(loads(body, exact=False)["b"][0]) == 0.1

    @pytest.mark.parametrize("depth", [900, 985, 1023, 1024, 1025, 2000])
    def test_is_no_deeper_than_the_strict_one(self, depth: int) -> None:
        body = b"[" * depth + b"]" * depth

        assert outcome(loads, body)[0] == outcome(read_strictly, body)[0]


def outcome(read: Callable[[bytes], Any], body: bytes) -> tuple[str, str]:
    """Return what comes of reading `body`."""
    try:
        return "read", repr(read(body))
    except json.JSONDecodeError as error:
        return "refused", error.msg


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "body", [b'{"a": 1, "a": 999999}', b'[{"x": {"k": 1, "k": 1}}]', b'{"\\u0061": 1, "a": 2}']
    )
    def test_the_same_key_twice(self, body: bytes) -> None:
        assert refusal(body) == "an object has the same key twice"

    @pytest.mark.parametrize("body", [b"NaN", b"Infinity", b"-Infinity", b'{"amount": NaN}'])
    def test_numbers_that_are_none(self, body: bytes) -> None:
        assert refusal(body) == "NaN and Infinity are not JSON"

    def test_a_byte_order_mark(self) -> None:
        assert refusal(b"\xef\xbb\xbf{}") == "the body starts with a byte order mark"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
    def test_other_encodings(self, encoding: str) -> None:
        assert refusal('{"a": "é"}'.encode(encoding))

    @pytest.mark.parametrize("body", [b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xc3"'])
    def test_bytes_that_are_no_utf_8(self, body: bytes) -> None:
        assert refusal(body) == "the body is not UTF-8"

    @pytest.mark.parametrize(
        "body",
        [
            b"1" * (MAX_NUMBER_CHARACTERS + 1),
            b"-" + b"1" * MAX_NUMBER_CHARACTERS,
            b"0." + b"1" * MAX_NUMBER_CHARACTERS,
            b"1" * 5001,
        ],
    )
    def test_numbers_that_are_too_long(self, body: bytes) -> None:
        assert refusal(body) == "a number is too long"

    @pytest.mark.parametrize(
        "body",
        [
            b"1e401",
            b"1e-401",
            b"1e999999999",
            b"0e999999",
            b"1e9999999999999999999",
            b"1e-9999999999999999999",
        ],
    )
    def test_exponents_that_no_float_has(self, body: bytes) -> None:
        assert refusal(body) == "a number is out of range"

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
    @pytest.mark.parametrize("closing", [b"", b"1"])
    def test_nesting_of_a_hundred_thousand_levels(self, opening: bytes, closing: bytes) -> None:
        assert refusal(opening * 100_000 + closing)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b'{"a": 1',
            b'{"a": 1} x',
            b"{} {}",
            b"[1,]",
            b'{"a": 1,}',
            b"{'a': 1}",
            b"{a: 1}",
            b"// no\n{}",
            b"01",
            b"+1",
            b"0x1",
            b"1_000",
            b".5",
            b"5.",
            b"tru",
            b'"\\x41"',
            b'"\\u12"',
            b'"a\x00b"',
            b'"a\nb"',
        ],
    )
    def test_what_is_no_json(self, body: bytes) -> None:
        assert refusal(body)

    @pytest.mark.parametrize(
        "body",
        [
            CANARY,
            f'"{CANARY}',
            f'{{"{CANARY}": 1, "{CANARY}": 2}}',
            f'{{"{CANARY}": NaN}}',
            f'{{"{CANARY}" 1}}',
            f'"{CANARY}\\x"',
            f'["{CANARY}"] {CANARY}',
            f'{{"{CANARY}": {"9" * 100}}}',
            f'{{"{CANARY}": 1e99999}}',
        ],
    )
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_no_message_holds_what_was_sent(self, body: str, encoding: str) -> None:
        with pytest.raises(json.JSONDecodeError) as caught:
            loads(body.encode(encoding))

        assert CANARY not in repr(caught.value) + str(caught.value) + caught.value.doc
        assert caught.value.__cause__ is None
