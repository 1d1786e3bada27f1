"""A server of the attacker's: it offers keys to whoever asks, and remembers that they asked."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from tests.security.forging import published, strange_key
from tests.servers import serving


@dataclass
class Trap:
    """Where it listens, and what it was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Hand out the attacker's key, whatever is asked for."""
        self.asked.append(scope["path"])
        body = json.dumps({"keys": [published(strange_key())]}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def open_trap() -> AsyncIterator[Trap]:
    """Run one on the loopback."""
    trap = Trap()
    async with serving(trap.answer) as url:
        trap.url = url
        yield trap
