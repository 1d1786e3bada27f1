"""Card numbers in places where they do not belong. Pure.

A text holds a card number when 13 to 19 digits of it, in one piece or in groups as cards print them, begin and count
as one of the card schemes has it and pass the Luhn check. A text of nothing but digits and separators is looked at
as a whole too, however it is grouped.

Ids that only look like it by chance are left alone where their form tells: a hexadecimal word with letters whose
length is a multiple of eight (a hash, a UUID without dashes), a UUID, an IBAN with right check digits, and times
(milliseconds since 1970, 20261102140322): no scheme's numbers begin like that. Of other numeric ids of 16 digits
about one in twenty-five is refused, so that a card number never gets into a record that cannot be changed.
"""

import re
import unicodedata
from typing import Final

SHORTEST, LONGEST = 13, 19
_SEPARATOR: Final = "[\\s_./\u00ad\u2010-\u2015\u2212-]"
_SEPARATORS = re.compile(_SEPARATOR + "+")
_S: Final = _SEPARATOR + "{1,3}"
_DIGITS = re.compile(r"(?<![0-9])[0-9]{13,19}(?![0-9])")
# within a lookahead, so that a number which begins inside another is found too
_GROUPED: Final = tuple(
    re.compile(f"(?<![0-9A-Za-z])(?=({groups})(?![0-9A-Za-z]))")
    for groups in (
        f"[0-9]{{4}}(?:{_S}[0-9]{{4}}){{3}}",
        f"[0-9]{{4}}(?:{_S}[0-9]{{4}}){{3}}{_S}[0-9]{{1,3}}",
        f"[0-9]{{4}}(?:{_S}[0-9]{{4}}){{2}}{_S}[0-9]{{1,3}}",
        f"[0-9]{{4}}{_S}[0-9]{{6}}{_S}[0-9]{{4,5}}",
        f"[0-9]{{6}}{_S}[0-9]{{7,13}}",
        f"[0-9]{{8}}{_S}[0-9]{{8,11}}",
    )
)
_ONLY_DIGITS = re.compile(f"(?:[0-9]|{_SEPARATOR})*")
# as all the forms begin
_MAY_BE_GROUPED = re.compile(f"(?<![0-9A-Za-z])(?:[0-9]{{4}}|[0-9]{{6}}|[0-9]{{8}}){_S}[0-9]{{4}}")
_WORD = re.compile(r"[0-9A-Za-z]+")
_HEX = re.compile(r"(?=.*[A-Fa-f])[0-9A-Fa-f]+")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
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
_LEFT_OUT: Final = b" \t_-./()"
_SUSPECT: Final = b"0" * SHORTEST


def may_hold_card_number(utf8: bytes) -> bool:
    """Say quickly whether a text within `utf8` could hold a card number; what is not ASCII counts as digits."""
    return _SUSPECT in utf8.translate(_AS_ZERO, _LEFT_OUT)


def holds_card_number(text: str) -> bool:
    """Say whether `text` is a card number or has one in it."""
    if not text.isascii():
        text = "".join(map(_with_ascii_digits, text))
    if not (_DIGITS.search(text) or _MAY_BE_GROUPED.search(text) or _ONLY_DIGITS.fullmatch(text)):
        return False
    whole = _SEPARATORS.sub("", text)
    if is_card_number(whole):
        return True
    if _is_iban(whole.upper()):
        return False
    if any(is_card_number(found[0]) and not _is_hexadecimal(text, found) for found in _DIGITS.finditer(text)):
        return True
    return any(
        is_card_number(_SEPARATORS.sub("", found[1])) for form in _GROUPED for found in form.finditer(text)
    )


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


def _is_hexadecimal(text: str, found: re.Match[str]) -> bool:
    """Say whether the word around `found` is a hash or another hexadecimal id, of which digits are but a part."""
    for word in _WORD.finditer(text):
        if word.end() >= found.end():
            return len(word[0]) % 8 == 0 and _HEX.fullmatch(word[0]) is not None
    return False


def _is_iban(text: str) -> bool:
    """Say whether `text` is an IBAN by form and check digits (ISO 13616, ISO/IEC 7064 mod 97-10)."""
    if not _IBAN.fullmatch(text):
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _with_ascii_digits(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
