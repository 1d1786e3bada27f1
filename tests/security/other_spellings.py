"""Good tokens spelled in another way, and text that is no token at all."""

import json
import zlib
from collections.abc import Callable, Iterator

from tests.security.forging import MEGABYTE, Attack, Forge, segment

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _twin(bits: int) -> Callable[[Forge], str]:
    """Change the spare bits of the last character: the same signature, spelled differently."""
    return lambda forge: forge.good[:-1] + ALPHABET[ALPHABET.index(forge.good[-1]) ^ bits]


def _standard(forge: Forge) -> str:
    """Write a good token with the characters of standard base64."""
    for number in range(64):
        token = forge.signed(payload=forge.claims_bytes({"jti": f"tok_standard_{number}"}))
        if {"-", "_"} <= set(token.rpartition(".")[2]):
            return token.replace("-", "+").replace("_", "/")
    raise AssertionError("no signature holds both characters")


def _encrypted(header: dict[str, object], text: bytes) -> Callable[[Forge], str]:
    """Make something like a JWE: five parts, of which nobody here has the key."""
    return lambda _: ".".join(
        (segment(json.dumps(header).encode()), "", segment(bytes(12)), segment(text), segment(bytes(16)))
    )


def _inside(text: str) -> Callable[[str], str]:
    return lambda good: good[:20] + text + good[20:]


def _around(number: int, text: str) -> Iterator[Attack]:
    """Put `text` behind, before and into a good token."""
    for name, spell in {
        "behind": lambda good: good + text,
        "before": lambda good: text + good,
        "inside": _inside(text),
        "after a point": lambda good: good.replace(".", "." + text, 1),
        "before a point": lambda good: good.replace(".", text + ".", 1),
    }.items():
        yield _respelled(number, f"{text!r} {name}", spell)


def _respelled(number: int, name: str, spell: Callable[[str], str]) -> Attack:
    return Attack(number, name, lambda forge: spell(forge.good))


def _text(number: int, text: str) -> Attack:
    return Attack(number, f"{text[:24]!r} of {len(text)}", lambda _: text)


def _padded(good: str) -> str:
    return ".".join(part + "=" * (-len(part) % 4) for part in good.split("."))


BOMB = zlib.compress(bytes(2 * MEGABYTE))
FIXED: list[Attack] = [
    _respelled(52, "one part", lambda good: good.split(".")[0]),
    _respelled(52, "two parts", lambda good: good.rpartition(".")[0]),
    _respelled(53, "four parts", lambda good: f"{good}.e30"),
    _respelled(53, "five parts", lambda good: f"{good}.e30.e30"),
    Attack(53, "encrypted with a key agreed on", _encrypted({"alg": "dir", "enc": "A256GCM"}, b"{}")),
    Attack(54, "a compressed bomb", _encrypted({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, BOMB)),
    Attack(
        54,
        "a compressed bomb, signed",
        lambda forge: forge.signed(header=forge.header_bytes({"zip": "DEF"}), payload=BOMB),
    ),
    *(_respelled(55, f"then {end}", lambda good, end=end: good + end) for end in ("=", "==", "%3D")),  # type: ignore[misc]
    _respelled(55, "every part padded", _padded),
    *(Attack(56, f"last character with other spare bits ({bits})", _twin(bits)) for bits in (1, 2, 4, 8, 15)),
    Attack(57, "standard base64", _standard),
    _respelled(57, "points percent-encoded", lambda good: good.replace(".", "%2E")),
    _text(61, "A" * MEGABYTE),
    _respelled(61, "a megabyte after the signature", lambda good: good + "A" * MEGABYTE),
    _text(61, "." * 100_000),
    _text(85, "ask_live_" + "5eed" * 12),
    _text(85, "s6N3gtagTWmbN-O_Ggq8n0G0vQ2xY7kLw9ZpHd4RtUc"),
    *(
        _text(86, text)
        for text in ("", ".", "..", "a.b", "a.b.c", "A.A.A", "AAAAA.AAAAA.AAAAA", "e30.e30.e30", "null", "{}")
    ),
]


def attacks() -> Iterator[Attack]:
    """Return all of them."""
    yield from FIXED
    for text in ("é", "\u00a0", "\u0085", "\u200b", "\u0660", "\ufeff", "\ud800"):
        yield from _around(58, text)
    for text in (" ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1f"):
        yield from _around(59, text)
    yield from _around(60, "\x00")
