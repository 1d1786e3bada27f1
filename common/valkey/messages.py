"""Messages between processes: published to whoever listens at that moment, at most once, never kept.

Who is not connected misses them, and who reads too slowly loses the oldest. A listener is told when it may have missed
some (`MISSED`), and looks at the truth: messages only say that it is worth looking.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge
from valkey.asyncio.connection import Connection
from valkey.exceptions import ResponseError, ValkeyError

from common.background import end
from common.valkey.address import ValkeyAddress
from common.valkey.connecting import drop, make
from common.valkey.errors import ValkeyAwayError

MAX_WAITING: Final = 1000
PING_S: Final = 5.0
RETRY_S: Final = 0.5
CONNECT_S: Final = 2.0
CONNECTED = Gauge(
    "assay_messages_connected", "1 while messages of other processes are heard.", multiprocess_mode="livemin"
)
PUBLISHED = Counter("assay_messages_published_total", "Messages to other processes.", ["channel", "result"])
RECEIVED = Counter("assay_messages_received_total", "Messages that were heard.", ["channel"])
DROPPED = Counter("assay_messages_dropped_total", "Messages that were not read in time.", ["channel"])
_log = structlog.get_logger()


class Missed(Enum):
    """Says that messages may have been missed: all of them, for all one knows."""

    MISSED = "missed"


MISSED: Final = Missed.MISSED


class Subscription:
    """What arrives on one channel, oldest first; iterate over it."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._waiting: deque[bytes | Missed] = deque()
        self._arrived = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes | Missed]:
        return self

    async def __anext__(self) -> bytes | Missed:
        """Return the next message, or `MISSED`."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    @property
    def waiting(self) -> int:
        """Return how many messages were not read yet."""
        return len(self._waiting)

    def put(self, message: bytes | Missed) -> None:
        """Keep a message until it is read; with too many of them, all that is left is that some were missed."""
        if len(self._waiting) >= MAX_WAITING:
            DROPPED.labels(self.channel).inc(len(self._waiting))
            self._waiting.clear()
            self._waiting.append(MISSED)
        if message is not MISSED or not self._waiting or self._waiting[-1] is not MISSED:
            self._waiting.append(message)
        self._arrived.set()


class Messages:
    """Publishes, and listens on a connection of its own, which it makes anew whenever it is lost."""

    def __init__(self, where: Callable[[], ValkeyAddress], call: Callable[..., Awaitable[Any]]) -> None:
        self._where = where
        self._call = call
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._connection: Connection | None = None
        self._listening: asyncio.Task[None] | None = None
        self._saying: set[asyncio.Task[None]] = set()

    async def publish(self, channel: str, body: bytes) -> bool:
        """Tell whoever listens now; return whether Valkey took it."""
        try:
            await self._call("PUBLISH", channel, body)
        except (ValkeyAwayError, ResponseError) as error:
            PUBLISHED.labels(channel, "failed").inc()
            _log.warning("message.not_published", channel=channel, error=type(error).__name__)
            return False
        PUBLISHED.labels(channel, "published").inc()
        return True

    def subscribe(self, channel: str) -> Subscription:
        """Listen to `channel`; the first thing that is heard is `MISSED`, as soon as it is listened to."""
        subscription = Subscription(channel)
        is_new = channel not in self._subscriptions
        self._subscriptions.setdefault(channel, []).append(subscription)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        elif is_new:
            self._say("SUBSCRIBE", channel)
        else:
            subscription.put(MISSED)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Listen for it no more."""
        listening = self._subscriptions.get(subscription.channel, [])
        if subscription in listening:
            listening.remove(subscription)
            if not listening:
                del self._subscriptions[subscription.channel]
                self._say("UNSUBSCRIBE", subscription.channel)

    async def aclose(self) -> None:
        """Stop listening."""
        tasks = [*self._saying, *([] if self._listening is None else [self._listening])]
        await end(tasks)

    def _say(self, *command: str) -> None:
        """Send a command on the connection that listens; while there is none, what is subscribed is said anew."""
        if self._connection is not None:
            task = asyncio.create_task(_send(self._connection, *command))
            self._saying.add(task)
            task.add_done_callback(self._saying.discard)

    async def _listen(self) -> None:
        while True:
            connection = self._where().connection()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await make(connection)
                    if self._subscriptions:
                        await connection.send_command("SUBSCRIBE", *self._subscriptions)
                self._connection = connection
                CONNECTED.set(1)
                await self._read(connection)
            except (ValkeyError, OSError, TimeoutError) as error:
                _log.warning("messages.not_heard", error=type(error).__name__)
            finally:
                self._connection = None
                CONNECTED.set(0)
                drop(connection)
            await asyncio.sleep(RETRY_S)

    async def _read(self, connection: Connection) -> None:
        """Hand on what arrives; raises when nothing does, although it was asked for."""
        is_asked = False
        while True:
            reply = await connection.read_response(timeout=PING_S)
            if reply is not None:
                is_asked = False
                self._take(reply)
            elif is_asked:
                raise TimeoutError
            else:
                is_asked = True
                await connection.send_command("PING", check_health=False)

    def _take(self, reply: Sequence[bytes]) -> None:
        kind = reply[0]
        if kind not in {b"message", b"subscribe"}:
            return
        channel = reply[1].decode()
        if kind == b"message":
            RECEIVED.labels(channel).inc()
        for subscription in self._subscriptions.get(channel, []):
            subscription.put(reply[2] if kind == b"message" else MISSED)


async def _send(connection: Connection, *command: str) -> None:
    with suppress(ValkeyError, OSError):  # the one who reads finds out
        await connection.send_command(*command, check_health=False)
