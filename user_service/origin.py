"""From where a session was started."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from common.client_address import client_address
from common.texts import one_line

MAX_ADDRESS = 45
MAX_USER_AGENT = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """The address and the program that a request came from, as far as they are known."""

    ip_address: str
    user_agent: str


async def origin_of(request: Request) -> Origin:
    """Return where `request` comes from."""
    user_agent = one_line(request.headers.get("user-agent", ""))
    return Origin(client_address(request)[:MAX_ADDRESS], user_agent[:MAX_USER_AGENT])


OriginDep = Annotated[Origin, Depends(origin_of)]
