"""A Valkey cluster: each command goes to the node that has the slot of its first key."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from valkey.crc import key_slot
from valkey.exceptions import ResponseError

from common.background import end
from common.valkey.address import ValkeyAddress
from common.valkey.errors import ValkeyAwayError, redirected_to
from common.valkey.node import Command, ValkeyNode

_WITHOUT_KEY: Final = frozenset({"PING", "PUBLISH", "FUNCTION", "CLUSTER", "INFO", "TIME", "DBSIZE", "SCAN"})
_FUNCTION_CALLS: Final = frozenset({"FCALL", "FCALL_RO", "EVAL", "EVALSHA"})
_ASKING: Final = ("ASKING",)
_Place = tuple[str, int]


class ValkeyCluster:
    """Knows which node has which slot, learns when that changes, and asks each node for all that concerns it at once.

    A command names its first key where SET, GET and FCALL do; the keys of one command are of one slot. What names no key
    goes to any node.
    """

    def __init__(self, seed: ValkeyAddress, *, timeout_s: float) -> None:
        self._seed = seed
        self._timeout_s = timeout_s
        self._nodes: dict[_Place, ValkeyNode] = {}
        self._slots: dict[int, _Place] = {}
        self._owners: frozenset[_Place] = frozenset()
        self._learning: asyncio.Task[None] | None = None

    @property
    def address(self) -> ValkeyAddress:
        """Return a node that answered, or the one that was named."""
        for node in self._nodes.values():
            if not node.circuit.is_open:
                return node.address
        return self._seed

    @property
    def is_away(self) -> bool:
        """Whether some node is away."""
        return any(node.circuit.is_open for place, node in self._nodes.items() if place in self._owners)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Return a reply for every command, an error where there is one."""
        if not self._slots:
            try:
                await self._learn()
            except ValkeyAwayError:
                return [ValkeyAwayError() for _ in commands]
        by_place: dict[_Place, list[int]] = {}
        for position, command in enumerate(commands):
            by_place.setdefault(self._place(command), []).append(position)
        replies: list[Any] = [None] * len(commands)
        await asyncio.gather(
            *(self._ask(place, positions, commands, replies) for place, positions in by_place.items())
        )
        await self._follow(commands, replies)
        return replies

    async def on_every_node(self, command: Command) -> None:
        """Do `command` on every node that has slots; raises `ValkeyAwayError`, `ResponseError`."""
        await self._learn()
        answers = await asyncio.gather(
            *(self._node(place).exchange([command]) for place in set(self._slots.values()))
        )
        for (reply,) in answers:
            if isinstance(reply, ResponseError):
                raise reply

    async def aclose(self) -> None:
        """Close every connection."""
        if self._learning is not None:
            await end([self._learning])
        for node in self._nodes.values():
            await node.aclose()

    async def _ask(
        self, place: _Place, positions: Sequence[int], commands: Sequence[Command], replies: list[Any]
    ) -> None:
        try:
            found = await self._node(place).exchange([commands[position] for position in positions])
        except ValkeyAwayError as error:
            found = [error] * len(positions)
            self._learn_soon()  # another node may have taken its place
        for position, reply in zip(positions, found, strict=True):
            replies[position] = reply

    async def _follow(self, commands: Sequence[Command], replies: list[Any]) -> None:
        """Ask again where a reply says that another node has the slot: once, all of a node together."""
        moved: dict[tuple[str, _Place], list[int]] = {}
        for position, reply in enumerate(replies):
            if (other := redirected_to(reply)) is not None:
                code, host, port = other
                moved.setdefault((code, (host or self._seed.host, port)), []).append(position)
        if not moved:
            return
        self._learn_soon()
        for (code, place), positions in moved.items():
            again = [commands[position] for position in positions]
            if code == "ASK":
                again = [each for command in again for each in (_ASKING, command)]
            try:
                found = await self._node(place).exchange(again)
            except ValkeyAwayError as error:
                found = [error] * len(again)
            for position, reply in zip(positions, found[1::2] if code == "ASK" else found, strict=True):
                replies[position] = reply

    def _place(self, command: Command) -> _Place:
        key = _first_key(command)
        if key is None:
            address = self.address
            return address.host, address.port
        return self._slots.get(key_slot(key), (self._seed.host, self._seed.port))

    def _node(self, place: _Place) -> ValkeyNode:
        if place not in self._nodes:
            self._nodes[place] = ValkeyNode(
                self._seed.at(*place), timeout_s=self._timeout_s, name=f"valkey {place[0]}:{place[1]}"
            )
        return self._nodes[place]

    def _learn_soon(self) -> None:
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn_quietly())

    async def _learn_quietly(self) -> None:
        for address in [self.address, self._seed, *(node.address for node in self._nodes.values())]:
            try:
                await self._learn(address)
            except ValkeyAwayError:
                continue
            return

    async def _learn(self, address: ValkeyAddress | None = None) -> None:
        """Ask which node has which slots; raises `ValkeyAwayError`."""
        asked = address or self.address
        ((ranges,),) = [await self._node((asked.host, asked.port)).exchange([("CLUSTER", "SLOTS")])]
        if isinstance(ranges, ResponseError):
            raise ValkeyAwayError from ranges
        slots: dict[int, _Place] = {}
        for first, last, primary, *_replicas in ranges:
            host = (primary[0] or b"").decode() or asked.host
            place = (asked.host if host == "?" else host, int(primary[1]))
            slots.update(dict.fromkeys(range(first, last + 1), place))
        self._slots, self._owners = slots, frozenset(slots.values())
        for place in set(self._nodes) - self._owners - {(self._seed.host, self._seed.port)}:
            await self._nodes.pop(place).aclose()  # it was replaced, and may never come back


def _first_key(command: Command) -> bytes | None:
    name = str(command[0]).upper()
    if name in _WITHOUT_KEY:
        return None
    position = 3 if name in _FUNCTION_CALLS else 1
    if len(command) <= position or (position == 3 and not int(command[2])):
        return None
    key = command[position]
    return key if isinstance(key, bytes) else str(key).encode()
