"""Forged contents: headers and claims that are nearly right, and bytes that are neither, all signed by the right key."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.security.forging import GONE, MEGABYTE, Attack, Forge

HEADERS: list[tuple[int, str, dict[str, Any]]] = [
    *((2, f"alg {spelling}", {"alg": spelling}) for spelling in ("none", "nOnE", "None", "NONE", "none ")),
    (3, "alg missing", {"alg": GONE}),
    (3, "alg null", {"alg": None}),
    (4, "alg as a list", {"alg": ["RS256"]}),
    (4, "alg as an object", {"alg": {"RS256": 1}}),
    *(
        (5, f"says {name}", {"alg": name})
        for name in ("HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 ", "RS256\n")
    ),
    (11, "crit names what nobody knows", {"crit": ["assay"], "assay": True}),
    (11, "crit names a claim", {"crit": ["exp"]}),
    (11, "crit empty", {"crit": []}),
    (12, "b64 false", {"b64": False}),
    (12, "b64 false, as RFC 7797 has it", {"b64": False, "crit": ["b64"]}),
    *(
        (42, f"typ {value!r}", {"typ": value})
        for value in ("JWT", "refresh+jwt", "id+jwt", "AT+JWT", "application/at+jwt", "", None, 7, ["at+jwt"], GONE)
    ),
    (42, "cty JWT", {"cty": "JWT"}),
    *(
        (43, f"kid {value}", {"kid": value})
        for value in ("../../dev/null", "/etc/passwd", "http://127.0.0.1/key", "file:///dev/null", "k\x00", "k\r\nX: y")
    ),
    *((44, f"kid {value!r}", {"kid": value}) for value in (7, None, True, ["k"], {"k": 1}, "", " ", GONE)),
    *((45, f"kid {value}", {"kid": value}) for value in ("' OR 1=1--", "1; DROP TABLE signing_keys", "k' UNION SELECT 1")),
    (46, "kid of 65 characters", {"kid": "k" * 65}),
    (46, "kid of a megabyte", {"kid": "k" * MEGABYTE}),
    (47, "x5t of a stranger", {"x5t": "AAAA"}),
    (47, "zip", {"zip": "DEF"}),
]  # fmt: skip

# a function is given the seconds since 1970
CLAIMS: list[tuple[int, str, dict[str, Any]]] = [
    (15, "no exp", {"exp": GONE}),
    *((16, f"exp {value!r}", {"exp": value}) for value in ("9999999999", "", "soon")),
    (17, "exp with a fraction", {"exp": lambda now: now + 600.5}),
    (17, "exp as a whole float", {"exp": lambda now: float(now + 600)}),
    (18, "exp Infinity", {"exp": float("inf")}),
    (18, "iat -Infinity", {"iat": float("-inf")}),
    (19, "exp NaN", {"exp": float("nan")}),
    (19, "iat NaN", {"iat": float("nan")}),
    (21, "exp true", {"exp": True}),
    (22, "exp null", {"exp": None}),
    (23, "exp negative", {"exp": -1}),
    (23, "exp zero", {"exp": 0}),
    (24, "exp 10^400", {"exp": 10**400}),
    (24, "exp 2^63", {"exp": 2**63}),
    (24, "a life of more than an hour", {"exp": lambda now: now + 3700}),
    (25, "just expired", {"exp": lambda now: now - 1}),
    (25, "expires now", {"exp": lambda now: now}),
    (26, "nbf in the future", {"nbf": lambda now: now + 600}),
    (26, "nbf at all", {"nbf": lambda now: now - 600}),
    (27, "iat in the future", {"iat": lambda now: now + 300, "exp": lambda now: now + 600}),
    (27, "iat after exp", {"iat": lambda now: now + 50, "exp": lambda now: now + 10}),
    (28, "iat a string", {"iat": str}),
    *((28, f"iat {value!r}", {"iat": value}) for value in (None, True, GONE, [1], {})),
    *((29, f"aud {value!r}", {"aud": value}) for value in ("other", "", "ASSAY", "assay ", "аssay")),
    (30, "aud missing", {"aud": GONE}),
    (30, "aud null", {"aud": None}),
    (31, "aud a list with ours", {"aud": ["assay"]}),
    (31, "aud a list with ours among others", {"aud": ["other", "assay"]}),
    *((32, f"aud {value!r}", {"aud": value}) for value in ("ass", "assay.example", "assayx", "assay/")),
    (33, "aud an object", {"aud": {"assay": True}}),
    (33, "aud a number", {"aud": 1}),
    *((34, f"iss {value!r}", {"iss": value}) for value in ("other", "", "ASSAY", "https://attacker.example")),
    *((35, f"iss {value!r}", {"iss": value}) for value in ("ass", "assayx", "assay.attacker.example", "a")),
    (36, "iss missing", {"iss": GONE}),
    (36, "iss null", {"iss": None}),
    (37, "iss a list", {"iss": ["assay"]}),
    *((38, f"sub {value!r}", {"sub": value}) for value in (7, True, 1.5)),
    *((39, f"sub {value!r}", {"sub": value}) for value in (GONE, None, "")),
    *((40, f"sub {value!r}", {"sub": value}) for value in ({"usr_test": 1}, ["usr_test"])),
    *(
        (42, f"token_use {value!r}", {"token_use": value})
        for value in ("refresh", "id", "access", "USER", "", None, 7, ["user"], GONE)
    ),
    (42, "an ID token's claims", {"nonce": "n", "auth_time": 1}),
    (47, "a key in the claims", {"cnf": {"jwk": {"kty": "RSA"}}}),
    *(
        (66, f"sub {value!r}", {"sub": value})
        for value in ("usr\u202etest", "usr\u200btest", "\ud800", "usr_test\x00", "usr test", "usr_test\n", "ｕsr")
    ),
    *((66, f"sid {value!r}", {"sid": value}) for value in ("\u202eses", "", None, 7, GONE, "s" * 65, ["s"])),
    *((67, f"role {value!r}", {"role": value}) for value in ("аdmin", "ADMIN", "admin ", "root", "", None, 7, ["admin"])),
    *((67, f"role beside the role: {name}", {name: True}) for name in ("roles", "is_admin", "permissions")),
    *(
        (72, f"scope {value!r}", {"scope": value})
        for value in ("score:*", "*", "score:write  decisions:read", " score:write", "score:write\n", ["score:write"], None, GONE, "root")
    ),
    *(
        (72, f"institution_id {value!r}", {"institution_id": value})
        for value in ("", "i" * 65, None, 7, ["ins_test"], GONE, "ins test", "*")
    ),
    *((72, f"institution_mode {value!r}", {"institution_mode": value}) for value in ("real", "", None, "LIVE", GONE)),
    *((72, f"base_currency {value!r}", {"base_currency": value}) for value in ("XXX", "eur", "", None, 7, GONE)),
    *((72, f"jti {value!r}", {"jti": value}) for value in (GONE, None, 7, "", "j" * 65)),
    (82, "of the staging environment", {"iss": "assay-staging", "aud": "assay-staging"}),
    (82, "for another audience", {"aud": "assay-staging"}),
    (83, "a clock that is far ahead", {"iat": lambda now: now + 240, "exp": lambda now: now + 900}),
    (83, "a clock 61 seconds behind", {"iat": lambda now: now - 961, "exp": lambda now: now - 61}),
    (84, "a user's claims as a service's", {"token_use": "service"}),
    (84, "a service with an institution", {"token_use": "service", "role": GONE}),
    (85, "a user's claims as an API key's", {"token_use": "api_key"}),
]  # fmt: skip


NO_OBJECTS: list[tuple[int, str, bytes]] = [
    (41, "empty", b""),
    (41, "null", b"null"),
    (41, "a list", b"[]"),
    (41, "a string", b'"RS256"'),
    (41, "a number", b"1"),
    (41, "cut short", b"{"),
    (41, "two objects", b"{}{}"),
    (62, "nested 100,000 deep", b"[" * 100_000),
    (62, "nested as deep as fits", b"[" * 1500),
    (62, "objects nested as deep as fits", b'{"a":' * 400),
    (63, "invalid UTF-8", b"\xff\xfe"),
    (63, "invalid UTF-8 in a name", b'{"\xc3\x28":1}'),
    (63, "an overlong slash", b'{"a":"\xc0\xaf"}'),
]
SPELLINGS: list[tuple[int, str, Callable[[bytes], bytes]]] = [
    (61, "with a megabyte of spaces", lambda data: data + b" " * MEGABYTE),
    (61, "longer than a token may be", lambda data: data + b" " * 4000),
    (64, "after a byte order mark", lambda data: b"\xef\xbb\xbf" + data),
    (65, "in UTF-16", lambda data: data.decode().encode("utf-16")),
    (65, "in UTF-16 without a mark", lambda data: data.decode().encode("utf-16-le")),
    (65, "in UTF-32", lambda data: data.decode().encode("utf-32")),
]
FIRST_OR_LAST: list[tuple[int, str, bytes]] = [
    (13, "header", b'"alg": "none"'),
    (13, "header", b'"kid": "other"'),
    (14, "claims", b'"role": "admin"'),
    (14, "claims", b'"role": "viewer"'),
    (14, "claims", b'"exp": 9999999999'),
    (14, "claims", b'"\\u0072ole": "admin"'),
]
NUMBERS: list[tuple[int, bytes]] = [
    (17, b"1.5"),
    (18, b"Infinity"),
    (19, b"NaN"),
    (20, b"1e400"),
    (20, b"-1e400"),
    (24, b"1" + b"0" * 400),
]


def attacks() -> Iterator[Attack]:
    """Return all of them."""
    yield from (_with_header(*row) for row in HEADERS)
    yield from (_with_claims(*row) for row in CLAIMS)
    for number, name, data in NO_OBJECTS:
        yield from _in_both(number, name, lambda _, data=data: data)  # type: ignore[misc]
    for number, name, spell in SPELLINGS:
        yield from _in_both(number, name, spell)
    for number, where, field in FIRST_OR_LAST:
        yield _rewritten(number, where, f"first {field.decode()}", _first(field))
        yield _rewritten(number, where, f"last {field.decode()}", _last(field))
    for number, text in NUMBERS:
        yield _rewritten(number, "claims", f"exp written {text[:8].decode()}", _number("exp", text))
        yield _rewritten(number, "claims", f"iat written {text[:8].decode()}", _number("iat", text))


def _with_header(number: int, name: str, changes: Mapping[str, object]) -> Attack:
    return Attack(number, name, lambda forge: forge.signed(header=forge.header_bytes(changes)))


def _with_claims(number: int, name: str, changes: Mapping[str, Any]) -> Attack:
    def build(forge: Forge) -> str:
        found = {key: value(forge.now) if callable(value) else value for key, value in changes.items()}
        return forge.signed(payload=forge.claims_bytes(found))

    return Attack(number, name, build)


def _in_both(number: int, name: str, spell: Callable[[bytes], bytes]) -> Iterator[Attack]:
    yield _rewritten(number, "header", name, spell)
    yield _rewritten(number, "claims", name, spell)


def _rewritten(number: int, where: str, name: str, spell: Callable[[bytes], bytes]) -> Attack:
    """Write the good header or the good claims in another way, and sign that."""

    def build(forge: Forge) -> str:
        if where == "header":
            return forge.signed(header=spell(forge.header_bytes({})))
        return forge.signed(payload=spell(forge.claims_bytes({})))

    return Attack(number, f"{where}: {name}", build)


def _first(field: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(b"{", b"{" + field + b", ", 1)


def _last(field: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:-1] + b", " + field + b"}"


def _number(claim: str, text: bytes) -> Callable[[bytes], bytes]:
    """Write a time as `text`."""
    time = re.compile(rb'("%b": )\d+' % claim.encode())
    return lambda data: time.sub(lambda found: found[1] + text, data)
