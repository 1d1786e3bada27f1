"""The shared velocity store over a real Valkey, and what tests ask of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from pydantic import SecretStr

from ai_service.features.shared_store import SharedVelocity
from ai_service.features.store import EmbeddedVelocity, Located, Name
from ai_service.features.velocity import VelocityReading
from common.circuit import Circuit
from common.valkey.calls import ValkeyCalls, open_valkey
from tests.valkey import ValkeyServer

PATIENCE_S = 5.0
ALLOWED = (
    "+fcall +function|load +get +set +mget +hget +hset +hmget +hlen +hdel +hincrby +hsetnx +exists +pexpire +unlink +time "
    "+scan +info +client|setinfo +select +ping"
)
"""What docs/decisions/0017-velocity-in-valkey.md says that Valkey's user needs."""


@dataclass
class Institutions:
    """Which institutions have decisions, and which decisions were told to be uncounted."""

    with_decisions: set[str] = field(default_factory=set)
    uncounted: list[Name] = field(default_factory=list)

    async def is_new(self, institution_id: str) -> bool:
        await asyncio.sleep(0)
        return institution_id not in self.with_decisions

    async def note(self, names: Sequence[Name]) -> None:
        await asyncio.sleep(0)
        self.uncounted += names


@dataclass
class Shared:
    """One process's store."""

    calls: ValkeyCalls
    store: SharedVelocity
    circuit: Circuit
    institutions: Institutions


def limited_user(server: ValkeyServer) -> str:
    """Make a user who may do what is needed and no more; return the URL of the server for that user."""
    rights = ("resetkeys", "~assay:*", "-@all", *ALLOWED.split())
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "assay", "reset", "on", ">secret-of-a-test", *rights)
    return server.url.replace("//", "//assay:secret-of-a-test@")


@asynccontextmanager
async def open_shared_velocity(
    url: str, *, institutions: Institutions | None = None, timeout_s: float = PATIENCE_S
) -> AsyncIterator[Shared]:
    known, circuit = institutions or Institutions(), Circuit("velocity-test", failures_to_open=3)
    async with open_valkey(SecretStr(url), timeout_s=timeout_s) as calls:
        store = SharedVelocity(calls, circuit=circuit, is_new=known.is_new, uncounted=known.note)
        yield Shared(calls, store, circuit, known)


def same(left: VelocityReading, right: VelocityReading) -> bool:
    return bool(np.array_equal(left.values, right.values)) and left[1:] == right[1:]


def names(waiting: Sequence[Located]) -> list[Name]:
    return [(each.institution_id, each.transaction.transaction_id) for each, _ in waiting]


async def assert_same_readings(
    shared: SharedVelocity, waiting: Sequence[Located], *, together: int = 8, saved_each: int = 1
) -> None:
    """Let both stores observe a stream in batches; of every `saved_each` batches one is saved."""
    embedded = EmbeddedVelocity()
    for number, start in enumerate(range(0, len(waiting), together)):
        batch = waiting[start : start + together]

        expected, found = await embedded.observe_all(batch), await shared.observe_all(batch)

        for place, (left, right) in enumerate(zip(expected, found, strict=True)):
            assert same(left, right), (start + place, left, right)
        if number % saved_each == 0:
            embedded.saved(names(batch))
            shared.saved(names(batch))
            await shared.drain()
