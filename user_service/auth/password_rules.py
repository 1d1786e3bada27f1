"""Which passwords may be chosen (pure)."""

import re
import unicodedata

from user_service.auth.common_words import common_words
from user_service.auth.password_pieces import size

MIN_CHARACTERS = 12
MAX_CHARACTERS = 128
MIN_DIFFERENT = 5

_LEAST_SIZE = 8
_LEAST_LOCAL_PART = 5
_OUR_NAMES = frozenset({"assay"})
_NAMES = re.compile(r"[^\W\d_]{4,}")


def normalised(password: str) -> str:
    """Return `password` as it is hashed: one form for characters that look the same (NFC), nothing cut off."""
    return unicodedata.normalize("NFC", password)


def form_fault(password: str) -> str | None:
    """Return what is wrong with the form of a normalised new password, or None."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        return f"a password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters"
    if "\x00" in password or any("\ud800" <= character <= "\udfff" for character in password):
        return "a password has no NUL and no half characters"
    return None


def weakness(password: str, *, email: str, institution_name: str) -> str | None:
    """Return why a normalised new password of the right form is too easy to guess, or None."""
    folded = password.casefold()
    if _holds_address(folded, email.casefold()):
        return "The password holds the e-mail address, or what is before its @."
    if len(set(folded)) < MIN_DIFFERENT:
        return f"The password has fewer than {MIN_DIFFERENT} different characters."
    if _repeats(folded):
        return f"The password repeats fewer than {MIN_CHARACTERS} characters."
    return _little_more_than(folded, _names_in(email, institution_name))


def _holds_address(folded: str, address: str) -> bool:
    local_part = address.rpartition("@")[0]
    return address in folded or (len(local_part) >= _LEAST_LOCAL_PART and local_part in folded)


def _repeats(folded: str) -> bool:
    """Whether it is the same few characters at least twice."""
    shortest_rest = max(len(folded) // 2, len(folded) - MIN_CHARACTERS + 1)
    return any(folded.startswith(folded[-rest:]) for rest in range(shortest_rest, len(folded)))


def _names_in(email: str, institution_name: str) -> frozenset[str]:
    """Return the words by which the account is known."""
    folded = institution_name.casefold()
    whole = "".join(each for each in folded if each.isalnum())
    return frozenset({whole, *_NAMES.findall(folded), *_NAMES.findall(email.casefold())}) | _OUR_NAMES


def _little_more_than(folded: str, names: frozenset[str]) -> str | None:
    common = common_words()
    if size(folded, common | names) >= _LEAST_SIZE:
        return None
    if size(folded, frozenset()) < _LEAST_SIZE:
        return "The password is little more than a sequence such as 1234 or qwerty."
    if size(folded, common) < _LEAST_SIZE:
        return "The password is little more than common words, with digits, years or signs."
    return "The password is little more than the name of the account, of its institution or of Assay."
