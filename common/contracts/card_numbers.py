"""Card numbers in places where they do not belong. Pure.

A text holds a card number when 13 to 19 digits of it, in one piece or in groups as cards print them, begin and count
as one of the card schemes has it and pass the Luhn check. Between groups stand up to three characters that are neither
letters nor digits, or any number of spaces; letters may stand right before and behind. A row of single digits or pairs
of them counts from where it begins and from where it ends, if the same stands between all of them and is no comma. A text of
nothing but digits and the usual separators is looked at as a whole too, however it is grouped. Digits of any script and
form (full width, circled, superscript) are digits.

Ids that only look like it by chance are left alone where their form tells: a hexadecimal word with letters whose
length is a multiple of eight (a hash, a UUID without dashes), a UUID, an IBAN with right check digits, and times
(milliseconds since 1970, 20261102140322): no scheme's numbers begin like that. Of other numeric ids of 16 digits
about one in twenty-five is refused, so that a card number never gets into a record that cannot be changed.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

SHORTEST, LONGEST = 13, 19
_SPACES = re.compile(r"\s+")
_SEPARATORS = re.compile("[\\s_./\u00ad\u2010-\u2015\u2212-]+")  # that alone do not make a text
_GAP: Final = r"[\W_]{1,3}"
_NOT_DIGITS = re.compile("[^0-9]+")
_DIGITS = re.compile(r"(?<![0-9])[0-9]{13,19}(?![0-9])")
# within a lookahead, so that a number which begins inside another is found too
_GROUPED: Final = tuple(
    re.compile(f"(?<![0-9])(?=({groups})(?![0-9]))")
    for groups in (
        f"[0-9]{{4}}(?:{_GAP}[0-9]{{4}}){{3}}",
        f"[0-9]{{4}}(?:{_GAP}[0-9]{{4}}){{3}}{_GAP}[0-9]{{1,3}}",
        f"[0-9]{{4}}(?:{_GAP}[0-9]{{4}}){{2}}{_GAP}[0-9]{{1,3}}",
        f"[0-9]{{4}}{_GAP}[0-9]{{6}}{_GAP}[0-9]{{4,5}}",
        f"[0-9]{{6}}{_GAP}[0-9]{{7,13}}",
        f"[0-9]{{8}}{_GAP}[0-9]{{8,11}}",
    )
)
_SAME_GAP: Final = r"((?:[^\w,;]|_){1,3})"  # numbers with commas between are a list
_ROWS: Final = (
    (1, re.compile(f"(?<![0-9])[0-9]{_SAME_GAP}[0-9](?:\\1[0-9]){{11,}}(?![0-9])")),
    (
        2,
        re.compile(f"(?<![0-9])[0-9]{{2}}{_SAME_GAP}[0-9]{{2}}(?:\\1[0-9]{{2}}){{4,}}(?:\\1[0-9])?(?![0-9])"),
    ),
)
_WORD = re.compile(r"[0-9A-Za-z]+")
_HEX = re.compile(r"[0-9]*[A-Fa-f][0-9A-Fa-f]*")
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
_PRINTED_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])"
)
_SCHEMES: Final = tuple(  # how numbers begin, and how many digits they have
    (re.compile(begins), frozenset(lengths))
    for begins, lengths in (
        (r"4", (13, 16, 19)),  # Visa
        (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
        (r"3[47]", (15,)),  # American Express
        (r"30[0-5]|3095|36|3[89]", range(14, 20)),  # Diners Club
        (r"35(?:2[89]|[3-8])", range(16, 20)),  # JCB
        (r"220[0-4]", range(16, 20)),  # Mir
        (r"5[06-8]|6[02357]|64[4-9]", range(16, 20)),  # Maestro, Discover, UnionPay, RuPay, Elo, Hipercard
        (r"8[12]|9792", (16,)),  # UnionPay, RuPay, Troy
    )
)

_AS_ZERO: Final = bytes(48 if byte >= 128 or chr(byte).isdigit() else 32 for byte in range(256))
_LEFT_OUT: Final = bytes(byte for byte in range(128) if not chr(byte).isalnum())
_SUSPECT: Final = b"0" * SHORTEST


def may_hold_card_number(utf8: bytes) -> bool:
    """Say quickly whether a text within `utf8` could hold a card number; what is not ASCII counts as digits."""
    return _SUSPECT in utf8.translate(_AS_ZERO, _LEFT_OUT)


def holds_card_number(text: str) -> bool:
    """Say whether `text` is a card number or has one in it."""
    if not text.isascii():
        text = "".join(map(_folded, text))
    whole = _SEPARATORS.sub("", text)
    if is_card_number(whole):
        return True
    if _is_iban(whole.upper()):
        return False
    text = _without_other_ids(_SPACES.sub(" ", text))
    return any(map(is_card_number, _candidates(text)))


def is_card_number(text: str) -> bool:
    """Say whether `text` is digits that begin, count and add up as a card number does."""
    if not (SHORTEST <= len(text) <= LONGEST and text.isascii() and text.isdigit()):
        return False
    return any(len(text) in lengths and begins.match(text) for begins, lengths in _SCHEMES) and _passes_luhn(
        text
    )


def _passes_luhn(digits: str) -> bool:
    values = [int(character) for character in reversed(digits)]
    doubled = [value * 2 - 9 if value > 4 else value * 2 for value in values[1::2]]
    return (sum(values[::2]) + sum(doubled)) % 10 == 0


def _candidates(text: str) -> Iterator[str]:
    """Yield what in `text` has the form of a card number."""
    for word in _WORD.findall(text):
        if len(word) % 8 or not _HEX.fullmatch(
            word
        ):  # a hash or another hexadecimal id: digits are but a part of it
            yield from _DIGITS.findall(word)
    for form in _GROUPED:
        for groups in form.findall(text):
            yield _NOT_DIGITS.sub("", groups)
    for each, row in _ROWS:
        for found in row.finditer(text):
            digits = _NOT_DIGITS.sub("", found[0])
            yield digits
            for length in range(SHORTEST + SHORTEST % each, LONGEST + 1, each):
                yield digits[:length]
                yield digits[-length:]


def _without_other_ids(text: str) -> str:
    """Return `text` with a letter in the place of each UUID and each IBAN."""
    text = _UUID.sub(lambda found: found[0] if found[0].replace("-", "").isdigit() else "x", text)
    return _PRINTED_IBAN.sub(lambda found: "x" if _is_iban(found[0].replace(" ", "")) else found[0], text)


def _is_iban(text: str) -> bool:
    """Say whether `text` is an IBAN by form and check digits (ISO 13616, ISO/IEC 7064 mod 97-10)."""
    if not _IBAN.fullmatch(text):
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    """Return a character as the digit it stands for, or as its plain form where that is as short or holds digits."""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize(
        "NFKC", character
    )  # up to eighteen characters, of which there may be thousands
    return plain if len(plain) == 1 or any(map(str.isdigit, plain)) else character
