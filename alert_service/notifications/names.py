"""Names that somebody chose, in mails to people who do not know them: they lead nowhere and stay short. Pure."""

import re

from common.texts import one_line

MOST_CHARACTERS = 60
_JOINED = re.compile(r"([.:\u2024\u3002\uff0e\uff1a\uff61])(?=[^\s.])")


def shown(name: str) -> str:
    """Return `name` in one line of at most 60 characters, with spaces where a mail program would see an address."""
    apart = _JOINED.sub(r"\1 ", one_line(name))
    return apart if len(apart) <= MOST_CHARACTERS else apart[: MOST_CHARACTERS - 3].rstrip() + "..."


def quoted(name: str) -> str:
    """Return `name` as it is shown, in quotes that it cannot end."""
    return '"' + shown(name).replace('"', "'") + '"'
