"""The words that common passwords are made of."""

from functools import cache
from importlib.resources import files


@cache
def common_words() -> frozenset[str]:
    """Return them in lower case: words, names, keyboard walks, and a few well-known passwords as a whole."""
    text = files("user_service.auth").joinpath("common_words.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
