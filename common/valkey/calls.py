"""Calls to Valkey: those of one moment go out together, each with its own reply, error and deadline."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client import Counter
from pydantic import SecretStr
from valkey.exceptions import ResponseError

from common.background import end
from common.settings import ServiceSettings
from common.valkey.address import ValkeyAddress, parse_address
from common.valkey.cluster import ValkeyCluster
from common.valkey.errors import ValkeyAwayError, ValkeyRefusedError, failure, is_missing_function
from common.valkey.messages import Messages
from common.valkey.node import Command, ValkeyNode, Word

__all__ = [
    "FunctionLibrary",
    "ValkeyAwayError",
    "ValkeyCalls",
    "ValkeyRefusedError",
    "Word",
    "open_shared",
    "open_valkey",
]

POOL_SIZE: Final = 10
CALLS = Counter("assay_valkey_calls_total", "Commands that were sent to Valkey.")
ERRORS = Counter(
    "assay_valkey_errors_total", "Commands that failed: Valkey was away, or refused them.", ["kind"]
)


@dataclass(frozen=True)
class FunctionLibrary:
    """Functions that run inside Valkey; `source` is loaded where it is missing.

    A library whose functions change takes another name, and so do they: old and new processes run side by side.
    """

    name: str
    source: str


class Transport(Protocol):
    """What carries commands: to one server, or to the nodes of a cluster."""

    @property
    def address(self) -> ValkeyAddress:
        """Return a server that can be asked what concerns no key."""
        ...

    @property
    def is_away(self) -> bool:
        """Whether nobody waits for it now."""
        ...

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Return a reply for every command, an error where there is one."""
        ...

    async def on_every_node(self, command: Command) -> None:
        """Do `command` on every server that keeps keys; raises `ValkeyAwayError`, `ResponseError`."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""


class ValkeyCalls:
    """Sends what is called within one step of the event loop as one pipeline over one of ten connections.

    A caller that is cancelled stops waiting; its command may have been done all the same.
    """

    def __init__(self, transport: Transport) -> None:
        self.messages = Messages(lambda: transport.address, self.call)
        self._transport = transport
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._is_due = False
        self._flushes: set[asyncio.Task[None]] = set()
        self._loads: dict[str, asyncio.Task[None]] = {}

    @property
    def is_away(self) -> bool:
        """Whether calls fail at once, because Valkey does not answer; asking costs nothing."""
        return self._transport.is_away

    async def call(self, *command: Word) -> Any:  # noqa: ANN401 - what Valkey answers
        """Return the reply to one command; raises `ValkeyAwayError`, or `ValkeyRefusedError`."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, reply))
        if not self._is_due and len(self._flushes) < POOL_SIZE:
            self._is_due = True
            loop.call_soon(self._flush)
        try:
            return await reply
        except ResponseError as error:
            raise failure(error) from None

    async def call_function(
        self, library: FunctionLibrary, name: str, keys: Sequence[Word], arguments: Sequence[Word]
    ) -> Any:  # noqa: ANN401 - what the function answers
        """Return what function `name` of `library` answers, loading the library where Valkey does not have it.

        Raises what `call` raises.
        """
        command = ("FCALL", name, len(keys), *keys, *arguments)
        try:
            return await self.call(*command)
        except ValkeyRefusedError as error:
            if not is_missing_function(error):
                raise
        await self._load(library)
        return await self.call(*command)

    async def aclose(self) -> None:
        """Fail what still waits, and close everything."""
        await self.messages.aclose()
        await end([*self._flushes, *self._loads.values()])
        self._answer(self._waiting, [ValkeyAwayError() for _ in self._waiting])
        self._waiting = []
        await self._transport.aclose()

    async def _load(self, library: FunctionLibrary) -> None:
        """Load `library`, once for all who miss it."""
        if library.name not in self._loads:
            command = ("FUNCTION", "LOAD", "REPLACE", library.source)
            task = self._loads[library.name] = asyncio.create_task(self._transport.on_every_node(command))
            task.add_done_callback(lambda _done: self._loads.pop(library.name, None))
        try:
            await asyncio.shield(self._loads[library.name])
        except ResponseError as error:
            raise failure(error) from None

    def _flush(self) -> None:
        self._is_due = False
        if not self._waiting:
            return
        calls, self._waiting = self._waiting, []
        task = asyncio.create_task(self._send(calls))
        self._flushes.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        if not self._is_due:
            self._flush()

    async def _send(self, calls: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        CALLS.inc(len(calls))
        try:
            replies = await self._transport.exchange([command for command, _ in calls])
        except ValkeyAwayError as error:
            replies = [error] * len(calls)
        except BaseException:
            self._answer(calls, [ValkeyAwayError() for _ in calls])
            raise
        self._answer(calls, replies)

    @staticmethod
    def _answer(calls: Sequence[tuple[Command, asyncio.Future[Any]]], replies: Sequence[Any]) -> None:
        for (_, reply), answer in zip(calls, replies, strict=True):
            if isinstance(answer, Exception):
                if not is_missing_function(answer):  # that is how one finds out that it has to be loaded
                    ERRORS.labels("refused" if isinstance(answer, ResponseError) else "away").inc()
                if not reply.done():
                    reply.set_exception(_own(answer))
            elif not reply.done():
                reply.set_result(answer)


class _OneServer(ValkeyNode):
    """One server as a transport."""

    @property
    def is_away(self) -> bool:
        """Whether nobody waits for it now."""
        return self.circuit.is_open

    async def on_every_node(self, command: Command) -> None:
        """Do `command` here; raises `ValkeyAwayError`, `ResponseError`."""
        (reply,) = await self.exchange([command])
        if isinstance(reply, ResponseError):
            raise reply


@asynccontextmanager
async def open_valkey(
    url: SecretStr, *, timeout_s: float, ca_file: Path | None = None
) -> AsyncIterator[ValkeyCalls]:
    """Yield calls to the Valkey at `url` (see `parse_address`); no connection is made before the first.

    `timeout_s` is how long any call may take once it is sent; behind ten pipelines under way it waits for its turn.
    """
    address = parse_address(url.get_secret_value(), ca_file=ca_file)
    transport: Transport = (
        ValkeyCluster(address, timeout_s=timeout_s)
        if address.is_cluster
        else _OneServer(address, timeout_s=timeout_s, name="valkey")
    )
    calls = ValkeyCalls(transport)
    try:
        yield calls
    finally:
        await calls.aclose()


@asynccontextmanager
async def open_shared(settings: ServiceSettings) -> AsyncIterator[ValkeyCalls | None]:
    """Yield calls to the Valkey that processes share, None where none is set: then state is kept in this process."""
    if settings.valkey_url is None:
        yield None
        return
    async with open_valkey(
        settings.valkey_url, timeout_s=settings.valkey_timeout_ms / 1000, ca_file=settings.valkey_ca_file
    ) as calls:
        yield calls


def _own(error: Exception) -> Exception:
    """Return an error of its own for each caller: what is raised in several tasks gathers all their tracebacks."""
    if not isinstance(error, ValkeyAwayError):
        return error
    own = ValkeyAwayError()
    own.__cause__ = error.__cause__
    return own
