"""An open-loop client: requests leave when they are due, whether or not earlier ones were answered.

Latency counts from the time a request was due, so neither a slow server nor this client's own lateness hides anything.
"""

import asyncio
import gc
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence

import uvloop

from bench.http_wire import Connection, WireAnswer, WireRequest
from bench.load_outcome import BROKEN, TIMED_OUT, UNSENT, LoadOutcome, Sample
from bench.timer import ExactTimer

TIMEOUT_S = 1.0
CONNECT_AT_ONCE = 64
TIMEOUT_LOOK_S = 0.01
_WAITING, _ON_ITS_WAY, _DONE = range(3)


class NoConnectionError(Exception):
    """The server to be measured cannot be connected to."""


def even_times(rate: float, seconds: float, *, start: float = 0.0) -> list[float]:
    """Return when requests are due at `rate` a second, evenly spaced, in seconds after the run's start."""
    return [start + number / rate for number in range(int(rate * seconds))]


def random_times(rate: float, seconds: float, *, start: float = 0.0, seed: int = 1) -> list[float]:
    """The same as a Poisson process: many independent payers know nothing of one another."""
    draw = random.Random(seed)  # noqa: S311 - arrival times, not secrets
    due: list[float] = []
    at = start + draw.expovariate(rate)
    while at < start + seconds:
        due.append(at)
        at += draw.expovariate(rate)
    return due


def offer(
    host: str,
    port: int,
    requests: Iterator[WireRequest],
    due: Sequence[float],
    *,
    connections: int,
    timeout_s: float = TIMEOUT_S,
) -> LoadOutcome:
    """Run `offer_in_loop` in an event loop of its own; raises `NoConnectionError`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            offer_in_loop(host, port, requests, due, connections=connections, timeout_s=timeout_s)
        )


async def offer_in_loop(
    host: str,
    port: int,
    requests: Iterator[WireRequest],
    due: Sequence[float],
    *,
    connections: int,
    timeout_s: float = TIMEOUT_S,
) -> LoadOutcome:
    """Send one request at each of `due` (ascending) and return what became of all of them.

    A request waits for a free connection when all are busy; that is the server's doing and counts. Past `timeout_s`
    it is given up and its connection replaced. Raises `NoConnectionError` when not a single connection comes about.
    """
    client = _Client(host, port, requests, due, timeout_s=timeout_s)
    try:
        await client.connect(connections)
        gc.disable()  # a collection in the middle would be measured as the server's
        return await client.run()
    finally:
        gc.enable()
        await client.close()


class _Client:
    def __init__(
        self,
        host: str,
        port: int,
        requests: Iterator[WireRequest],
        due: Sequence[float],
        *,
        timeout_s: float,
    ) -> None:
        self._address = (host, port)
        self._requests = requests
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._offsets = due
        self._samples: list[Sample] = []
        self._states = bytearray()
        self._carriers: dict[int, Connection] = {}
        self._waiting: deque[int] = deque()
        self._wires: dict[int, bytes] = {}
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._oldest = 0
        self._undone = len(due)
        self._finished = asyncio.Event()
        self._timer = ExactTimer(self._loop, self._send_due)
        self._start = 0.0

    async def connect(self, connections: int) -> None:
        for begin in range(0, connections, CONNECT_AT_ONCE):
            at_once = min(CONNECT_AT_ONCE, connections - begin)
            await asyncio.gather(*(self._connect() for _ in range(at_once)))
        if not self._open:
            raise NoConnectionError(f"{self._address[0]}:{self._address[1]}")

    async def run(self) -> LoadOutcome:
        # a moment to get going, so that the first requests are not late
        self._start = time.monotonic() + 0.02
        if self._offsets:
            self._timer.set(self._start + self._offsets[0])
            looking = self._loop.create_task(self._look_for_timeouts())
            await self._finished.wait()
            looking.cancel()
        return LoadOutcome(tuple(self._samples), connections=len(self._open))

    async def close(self) -> None:
        self._timer.close()
        for task in self._opening:
            task.cancel()
        for connection in self._open:
            connection.close()
        await asyncio.sleep(0)  # the loop closes their sockets in its next step

    def _send_due(self) -> None:
        """Send all that are due; a wake-up may find several, and says so by their lateness."""
        index = len(self._samples)
        offsets, start = self._offsets, self._start
        while index < len(offsets) and offsets[index] <= (now := time.monotonic() - start):
            request = next(self._requests)
            self._samples.append(Sample(request.id, offsets[index], now))
            self._states.append(_WAITING)
            if self._idle and not self._waiting:
                self._send(self._idle.pop(), index, request.wire)
            else:
                self._wires[index] = request.wire
                self._waiting.append(index)
            index += 1
        if index < len(offsets):
            self._timer.set(start + offsets[index])

    def _send(self, connection: Connection, index: int, wire: bytes) -> None:
        self._states[index] = _ON_ITS_WAY
        self._carriers[index] = connection
        connection.send(index, wire)

    def answered(self, connection: Connection, answer: WireAnswer) -> None:
        index = connection.request_index
        if index < 0:  # an answer to nothing
            self._drop(connection)
            return
        self._carriers.pop(index, None)
        sample = self._samples[index]
        sample.status = answer.status
        if answer.status >= 300:
            sample.is_polite_refusal = (
                b"\r\nretry-after: " in answer.head and b"application/problem+json" in answer.head
            )
        self._done(index)
        connection.request_index = -1
        if answer.closes:
            self._drop(connection)
        else:
            self._next_on(connection)

    def lost(self, connection: Connection) -> None:
        index = connection.request_index
        if index >= 0 and self._carriers.pop(index, None) is not None:
            self._samples[index].status = BROKEN
            self._done(index)
        self._drop(connection)

    def _next_on(self, connection: Connection) -> None:
        while self._waiting:
            index = self._waiting.popleft()
            if self._states[index] == _WAITING:
                self._send(connection, index, self._wires.pop(index))
                return
        self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._finished.is_set():
            task = self._loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        """Open one more connection; while the server refuses, try again as long as the run lasts."""
        while not self._finished.is_set():
            try:
                _, connection = await self._loop.create_connection(lambda: Connection(self), *self._address)
            except OSError:
                if self._start == 0.0:
                    return
                await asyncio.sleep(TIMEOUT_LOOK_S)
            else:
                self._open.add(connection)
                self._next_on(connection)
                return

    async def _look_for_timeouts(self) -> None:
        while True:
            await asyncio.sleep(TIMEOUT_LOOK_S)
            horizon = time.monotonic() - self._start - self._timeout_s
            while self._oldest < len(self._samples) and self._samples[self._oldest].due <= horizon:
                self._give_up(self._oldest)
                self._oldest += 1

    def _give_up(self, index: int) -> None:
        if self._states[index] == _DONE:
            return
        sample = self._samples[index]
        connection = self._carriers.pop(index, None)
        self._wires.pop(index, None)
        sample.status = UNSENT if connection is None else TIMED_OUT
        self._done(index)
        if connection is not None:
            connection.request_index = -1
            self._drop(connection)

    def _done(self, index: int) -> None:
        self._states[index] = _DONE
        self._samples[index].done = time.monotonic() - self._start
        self._undone -= 1
        if self._undone == 0:
            self._finished.set()
