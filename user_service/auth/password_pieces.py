"""How much of a password is left when what is guessed first counts little (pure).

A password is taken as a row of pieces: a word counts as two characters, however long it is, a sequence (`1234`, `qwerty`,
`aaaa`) or a year as one, and everything else as what it is. Programs that guess put passwords together in the same way.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Set
from typing import NamedTuple

_WORD = 2
_SEQUENCE = 1
_SHORTEST_WORD = 3
_SHARED = 8  # as many characters at the end of a sequence may begin the next piece: 12345 and 5ecret
_DIGITS, _LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyz"
_YEAR_OR_RUN = re.compile(r"(?=((?:19|20)\d\d|(.)\2{2,}))")
_KEYS = (
    *("qwertyuiopasdfghjklzxcvbnm", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "qwertzuiop", "azertyuiop"),
    *("1qaz2wsx3edc4rfv5tgb6yhn7ujm", "qazwsxedcrfvtgbyhnujmikolp", "zaq1xsw2cde3vfr4", "zaq12wsxcde3"),
    *("1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "1qa2ws3ed4rf5tg6yh7uj", "1qazxsw23edcvfr45tgb"),
    *("qawsedrftgyhujikolp", "qwaszxerdfcvtyghbn", "qazxswedcvfrtgb", "1a2s3d4f5g6h7j8k9l", "z1x2c3v4b5n6m7"),
    *("a1b2c3d4e5f6g7h8i9", "1a2b3c4d5e6f7g8h9i", "!@#$%^&*()_+", '!"#$%&/()=?'),
)
_ROWS_OF_DIGITS = (
    "".join(str(number) for number in range(100)),
    "".join(digit * 2 for digit in _DIGITS * 2),
    "".join(digit * 3 for digit in _DIGITS * 2),
    *("147258369", "741852963", "159753456852"),
)


def _both_ways(rows: tuple[str, ...]) -> str:
    """Return `rows` and their reverses as one text; no password holds what is between them."""
    return "\x00".join([*rows, *(row[::-1] for row in rows)])


_SEQUENCES = (  # with the length from which on one is no accident: digits chosen at random hold many short ones
    (_both_ways((_DIGITS * 13,)), 3),
    (_both_ways((_LETTERS * 2, *_KEYS)), 4),
    (_both_ways(_ROWS_OF_DIGITS), 6),
)
_SIGNS_FOR_LETTERS = tuple(str.maketrans("013457@$!", letters) for letters in ("oieastasi", "oleastasl"))


class _Piece(NamedTuple):
    """Where a piece begins, where it may end, and what it is worth."""

    start: int
    ends: range
    worth: int


def size(password: str, words: Set[str]) -> int:
    """Return how many characters a case-folded password is worth; `words` are those that are guessed first."""
    least = list(range(len(password) + 1))
    pieces: defaultdict[int, list[_Piece]] = defaultdict(list)
    for piece in (*_sequences(password), *_words(password, words)):
        pieces[piece.start].append(piece)
    for start in range(len(password)):
        least[start + 1] = min(least[start + 1], least[start] + 1)
        for piece in pieces[start]:
            for end in piece.ends:
                least[end] = min(least[end], least[start] + piece.worth)
    return least[-1]


def _words(password: str, words: Set[str]) -> Iterator[_Piece]:
    """Yield words, also those with digits and signs in the place of letters."""
    longest = max(map(len, words), default=0)
    for text in {password, *(password.translate(signs) for signs in _SIGNS_FOR_LETTERS)}:
        for start in range(len(text)):
            for end in range(start + _SHORTEST_WORD, min(start + longest, len(text)) + 1):
                if text[start:end] in words:
                    yield _Piece(start, range(end, end + 1), _WORD)


def _sequences(password: str) -> Iterator[_Piece]:
    """Yield sequences and years."""
    for found in _YEAR_OR_RUN.finditer(password):
        yield _Piece(found.start(1), range(found.end(1), found.end(1) + 1), _SEQUENCE)
    for rows, shortest in _SEQUENCES:
        end = 0
        for start in range(len(password)):
            end = max(end, start)  # what begins later ends no earlier: a part of a sequence is one
            while end < len(password) and password[start : end + 1] in rows:
                end += 1
            ends = range(max(start + shortest, end - _SHARED), end + 1)
            yield _Piece(start, ends, _SEQUENCE)
