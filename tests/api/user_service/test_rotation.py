"""Rotating signing keys: the real store, the real key set and the real gate, with a clock that is moved by hand."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.auth.gate import Expected, key_id, open_token
from common.auth.keys import REFRESH_S, PublicKeys
from common.auth.principal import UnauthenticatedError
from common.db import open_database
from user_service.auth.tokens import TokenIssuer
from user_service.events.recording import SYSTEM
from user_service.institutions.platform import make_platform
from user_service.signing_keys.keeper import KeyKeeper
from user_service.signing_keys.ring import KeyRing
from user_service.signing_keys.schedule import LEAD_MS, OVERLAP_MS
from user_service.signing_keys.store import KeyStore, RotationUnderWayError
from user_service.tables import MIGRATIONS
from user_service.times import DAY_MS

PASSPHRASE = "a passphrase that is long enough for tests"
START_MS = 1_800_000_000_000
TOKEN_S = 3600  # the longest there is


@dataclass
class Clock:
    """Time that passes only when told to."""

    now_ms: int = START_MS

    def milliseconds(self) -> int:
        return self.now_ms

    def seconds(self) -> float:
        return self.now_ms / 1000

    def move_to(self, now_ms: int) -> None:
        assert now_ms >= self.now_ms
        self.now_ms = now_ms


@dataclass
class Process:
    """One process of user_service, as far as keys go, and another service that verifies its tokens."""

    clock: Clock
    store: KeyStore
    keeper: KeyKeeper
    verifier: PublicKeys
    fetches: list[int] = field(default_factory=list)

    @property
    def ring(self) -> KeyRing:
        return self.keeper.ring

    def token(self) -> str:
        issuer = TokenIssuer(
            self.ring, issuer="us", audience="them", user_token_s=TOKEN_S, service_token_s=TOKEN_S
        )
        return issuer.for_service("ai_service", scopes=(), now_ms=self.clock.now_ms).text

    async def rotate(self, *, at_once: bool = False) -> str:
        async with self.store.database.sessions.begin() as session:
            row = await self.store.rotate(session, actor=SYSTEM, now_ms=self.clock.now_ms, at_once=at_once)
        await self.keeper.look(now_ms=self.clock.now_ms)
        return row.kid

    async def is_good(self, token: str) -> bool:
        """Say whether the other service takes `token`."""
        try:
            key = await self.verifier.find(key_id(token))
            open_token(token, key, expected=Expected("us", "them"), now=self.clock.now_ms // 1000)
        except UnauthenticatedError:
            return False
        return True


async def start(
    stack: AsyncExitStack, folder: Path, clock: Clock, *, days: int = 0, passphrase: str = PASSPHRASE
) -> Process:
    url = f"sqlite:///{folder / 'users.db'}"
    database = await stack.enter_async_context(open_database(url, migrations=MIGRATIONS))
    async with database.sessions.begin() as session:
        await make_platform(session, now_ms=clock.now_ms)
    store = KeyStore(database, passphrase)
    opened = await store.open(now_ms=clock.now_ms)
    ring = KeyRing(opened.keys, clock=clock.milliseconds)
    fetches: list[int] = []

    async def published(_request: httpx.Request) -> httpx.Response:
        fetches.append(clock.now_ms)
        return httpx.Response(200, json={"keys": ring.published(clock.now_ms)})

    client = await stack.enter_async_context(
        httpx.AsyncClient(transport=httpx.MockTransport(published), base_url="http://users.test")
    )
    verifier = PublicKeys(client, clock=clock.seconds)
    await verifier.refresh()
    return Process(clock, store, KeyKeeper(ring, store, days=days), verifier, fetches)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def process(stack: AsyncExitStack, tmp_path: Path, clock: Clock) -> Process:
    return await start(stack, tmp_path, clock)


def events(folder: Path) -> Sequence[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "users.db")) as connection:
        rows = connection.execute("SELECT body FROM identity_events ORDER BY sequence").fetchall()
    return [json.loads(body)["event"] for (body,) in rows]


class TestTheFirstKey:
    async def test_is_recorded_once(
        self, stack: AsyncExitStack, process: Process, clock: Clock, tmp_path: Path
    ) -> None:
        another = await start(stack, tmp_path, clock)

        registered, created = events(tmp_path)
        assert registered["action"] == "institution.registered"
        assert created["action"] == "signing_key.created"
        assert created["actor"] == {"kind": "system", "id": None}
        kids = {each.ring.keys[0].key.kid for each in (process, another)}
        assert kids == {created["subject"]["id"]}
        assert created["subject"]["kind"] == "signing_key"


class TestOverlap:
    async def test_a_new_key_is_known_everywhere_before_it_signs(
        self, process: Process, clock: Clock
    ) -> None:
        old = process.ring.keys[0].key.kid

        new = await process.rotate()
        signed_by = key_id(process.token())
        clock.move_to(START_MS + LEAD_MS - 1)
        still_signed_by = key_id(process.token())
        await process.verifier.refresh()
        clock.move_to(START_MS + LEAD_MS)
        token = process.token()

        assert [signed_by, still_signed_by, key_id(token)] == [old, old, new]
        fetched = len(process.fetches)
        assert await process.is_good(token)
        assert len(process.fetches) == fetched

    async def test_two_fetches_may_fail_before_the_new_key_signs(self) -> None:
        assert LEAD_MS >= 3 * REFRESH_S * 1000

    async def test_the_old_key_is_good_until_its_last_token_has_expired_and_not_after(
        self, process: Process, clock: Clock
    ) -> None:
        await process.rotate()
        clock.move_to(START_MS + LEAD_MS - 1)
        last_of_the_old = process.token()
        await process.verifier.refresh()
        clock.move_to(START_MS + LEAD_MS - 1000 + TOKEN_S * 1000 - 1)
        await process.verifier.refresh()

        good_to_its_end = await process.is_good(last_of_the_old)
        clock.move_to(START_MS + LEAD_MS + OVERLAP_MS - 1)
        await process.verifier.refresh()
        key_still_there = process.verifier.has(key_id(last_of_the_old))
        clock.move_to(START_MS + LEAD_MS + OVERLAP_MS)
        await process.verifier.refresh()

        assert good_to_its_end
        assert key_still_there
        assert not process.verifier.has(key_id(last_of_the_old))
        assert not process.ring.has(key_id(last_of_the_old))

    async def test_a_token_that_claims_a_retired_key_is_refused_however_young_it_is(
        self, process: Process, clock: Clock
    ) -> None:
        """Whoever has stolen the old key can sign whatever they like with it."""
        stolen = KeyRing(process.ring.keys)
        await process.rotate()
        clock.move_to(START_MS + LEAD_MS + OVERLAP_MS)
        await process.verifier.refresh()
        thief = Process(clock, process.store, KeyKeeper(stolen, process.store, days=0), process.verifier)

        assert not await process.is_good(thief.token())
        assert await process.is_good(process.token())

    async def test_a_second_rotation_waits_for_the_end_of_the_first(
        self, process: Process, clock: Clock
    ) -> None:
        await process.rotate()
        clock.move_to(START_MS + LEAD_MS + OVERLAP_MS - 1)
        with pytest.raises(RotationUnderWayError):
            await process.rotate()

        clock.move_to(START_MS + LEAD_MS + OVERLAP_MS)
        await process.rotate()

        assert len(process.ring.published(clock.now_ms)) == 2

    async def test_is_recorded_with_what_it_replaces(self, process: Process, tmp_path: Path) -> None:
        old = process.ring.keys[0].key.kid

        new = await process.rotate()

        event = events(tmp_path)[-1]
        assert event["action"] == "signing_key.rotated"
        assert event["actor"] == {"kind": "system", "id": None}
        assert event["subject"] == {"kind": "signing_key", "id": new}
        assert event["details"] == {
            "signs_from_ms": START_MS + LEAD_MS,
            "replaces": [old],
            "at_once": False,
        }


class TestAtOnce:
    async def test_ends_every_token_when_the_others_have_fetched_the_keys(
        self, process: Process, clock: Clock
    ) -> None:
        token = process.token()
        assert await process.is_good(token)

        await process.rotate(at_once=True)
        clock.move_to(START_MS + int(REFRESH_S) * 1000)
        await process.verifier.refresh()

        assert not await process.is_good(token)
        assert await process.is_good(process.token())
        assert not process.ring.has(key_id(token))

    async def test_also_takes_the_place_of_a_rotation_under_way(
        self, process: Process, clock: Clock, tmp_path: Path
    ) -> None:
        await process.rotate()

        newest = await process.rotate(at_once=True)

        assert [key["kid"] for key in process.ring.published(clock.now_ms)] == [newest]
        assert [event["action"] for event in events(tmp_path)[-3:]] == [
            "signing_key.rotated",
            "signing_key.retired",
            "signing_key.retired",
        ]


class TestSchedule:
    async def test_rotates_when_the_key_is_old_enough_and_not_before(
        self, stack: AsyncExitStack, tmp_path: Path, clock: Clock
    ) -> None:
        process = await start(stack, tmp_path, clock, days=90)
        first = process.ring.keys[0].key.kid

        clock.move_to(START_MS + 90 * DAY_MS - 1)
        await process.keeper.look(now_ms=clock.now_ms)
        before = [ring_key.key.kid for ring_key in process.ring.keys]
        clock.move_to(START_MS + 90 * DAY_MS)
        await process.keeper.look(now_ms=clock.now_ms)
        after = [ring_key.key.kid for ring_key in process.ring.keys]
        await process.keeper.look(now_ms=clock.now_ms)

        assert before == [first]
        assert len(after) == 2
        assert after[1] == first
        assert [ring_key.key.kid for ring_key in process.ring.keys] == after

    async def test_zero_days_is_never(self, process: Process, clock: Clock) -> None:
        clock.move_to(START_MS + 4000 * DAY_MS)

        await process.keeper.look(now_ms=clock.now_ms)

        assert len(process.ring.keys) == 1

    async def test_of_several_processes_one_rotates_and_all_use_its_key(
        self, stack: AsyncExitStack, tmp_path: Path, clock: Clock
    ) -> None:
        processes = [await start(stack, tmp_path, clock, days=1) for _ in range(3)]
        clock.move_to(START_MS + DAY_MS)

        await asyncio.gather(*(each.keeper.look(now_ms=clock.now_ms) for each in processes))
        for each in processes:
            await each.keeper.look(now_ms=clock.now_ms)

        rings = [[ring_key.key.kid for ring_key in each.ring.keys] for each in processes]
        assert len(rings[0]) == 2
        assert rings == [rings[0]] * 3
        assert [event["action"] for event in events(tmp_path)].count("signing_key.rotated") == 1
