"""The watch: what it takes over, when it tries again, and what wakes it."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise

from sqlalchemy.exc import OperationalError

from common.changes.repository import Subject
from common.changes.tables import FOR_ALL
from common.changes.watch import MAX_PAUSE_S, POLL_S, ChangeWatch

KEYS: Subject = ("keys", FOR_ALL)
RULES: Subject = ("rules", "ins_a")


class Database:
    """Versions that a test sets."""

    def __init__(self) -> None:
        self.versions: dict[Subject, int] = {KEYS: 3}
        self.looked = asyncio.Event()
        self.away = False

    async def read(self) -> Mapping[Subject, int]:
        """Return what is there now."""
        self.looked.set()
        if self.away:
            raise OperationalError("SELECT", {}, Exception("away"))
        return dict(self.versions)


class Taking:
    """Takes changes over, or fails as often as a test says."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.fails = 0
        self.tried = 0
        self.now = 0.0

    async def keys(self, scope: str) -> None:
        """Take over keys."""
        self.tried += 1
        if self.fails:
            self.fails -= 1
            raise ValueError("not now")
        self.taken.append(("keys", scope))

    async def rules(self, scope: str) -> None:
        """Take over rules."""
        self.taken.append(("rules", scope))


async def made(database: Database, taking: Taking) -> ChangeWatch:
    watch = ChangeWatch(database.read, {"keys": taking.keys, "rules": taking.rules}, clock=lambda: taking.now)
    await watch.start()
    return watch


class TestLooking:
    async def test_takes_over_what_changed_since_the_start_once(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        await watch.look()
        before = taking.taken[:]
        database.versions |= {KEYS: 4, RULES: 1}

        await watch.look()
        await watch.look()

        assert before == []
        assert taking.taken == [("keys", FOR_ALL), ("rules", "ins_a")]

    async def test_takes_over_a_version_that_went_back(self) -> None:
        """A database that was restored from a backup."""
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        database.versions[KEYS] = 2

        await watch.look()

        assert taking.taken == [("keys", FOR_ALL)]

    async def test_leaves_topics_alone_that_nobody_here_watches(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        database.versions["later", FOR_ALL] = 1

        await watch.look()

        assert taking.taken == []

    async def test_tries_again_what_failed_with_growing_pauses_and_others_do_not_wait(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        taking.fails = 6
        database.versions |= {KEYS: 4, RULES: 1}
        tried_at = []

        for second in range(100):
            taking.now = float(second)
            before = taking.tried
            await watch.look()
            tried_at += [second] * (taking.tried - before)

        pauses = [later - earlier for earlier, later in pairwise(tried_at)]
        assert pauses == [POLL_S, 2 * POLL_S, 4 * POLL_S, 8 * POLL_S, MAX_PAUSE_S, MAX_PAUSE_S]
        assert taking.taken == [("rules", "ins_a"), ("keys", FOR_ALL)]

    async def test_takes_over_what_could_not_be_at_the_start(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)

        watch.try_again("keys")
        await watch.look()

        assert taking.taken == [("keys", FOR_ALL)]


class TestRunning:
    async def test_looks_at_once_when_it_is_told(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        database.looked.clear()

        watch.tell()
        async with asyncio.timeout(POLL_S / 2):  # before it would have looked by itself
            await database.looked.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def test_goes_on_when_the_database_was_away(self) -> None:
        database, taking = Database(), Taking()
        watch = await made(database, taking)
        database.away = True
        running = asyncio.create_task(watch.run())
        async with asyncio.timeout(5):
            database.looked.clear()
            await database.looked.wait()
            database.away = False
            database.versions[KEYS] = 4
            while not taking.taken:
                watch.tell()
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert taking.taken == [("keys", FOR_ALL)]
