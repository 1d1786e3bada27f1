"""From where a session was started."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from common.client_address import client_address

MAX_ADDRESS = 45
MAX_USER_AGENT = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The address and the program that a request came from, as far as they are known."""

    ip_address: str
    user_agent: str


async def origin_of(request: Request) -> Origin:
    """Return where `request` comes from."""
    return Origin(client_address(request)[:MAX_ADDRESS], one_line(request.headers.get("user-agent", "")))


def one_line(text: str) -> str:
    """Return `text` as one line of at most 256 characters that can be shown."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:MAX_USER_AGENT]


OriginDep = Annotated[Origin, Depends(origin_of)]
