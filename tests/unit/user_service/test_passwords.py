import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from common.errors import OverloadedError
from tests.waiting import PATIENCE_S
from user_service.auth.passwords import OWASP_ARGON2ID, Passwords, open_passwords

PASSWORD = "tide-and-lantern-42"


class QuickHasher(PasswordHasher):
    """Argon2id with small parameters; it counts checks and can be held up."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64, parallelism=1)
        self.checks = 0
        self.started = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

        self.niceness = 0

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002, ANN401 - the library's signature
        self.checks += 1
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.started.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return super().verify(hash, password)


@pytest.fixture
def hasher() -> QuickHasher:
    return QuickHasher()


@pytest.fixture
async def passwords(hasher: QuickHasher) -> AsyncIterator[Passwords]:
    async with open_passwords(workers=1, queue=2, hasher=hasher) as opened:
        yield opened
        hasher.may_go_on.set()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
class TestPriority:
    async def test_is_low_so_that_hashing_slows_down_nobody_else(
        self, passwords: Passwords, hasher: QuickHasher
    ) -> None:
        ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        await passwords.check(PASSWORD, stored=None)

        assert hasher.niceness == max(15, ours)


class TestHash:
    async def test_is_argon2id_with_the_parameters_owasp_names(self) -> None:
        async with open_passwords(workers=1, queue=1) as passwords:
            stored = await passwords.hash(PASSWORD)

        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert not OWASP_ARGON2ID.check_needs_rehash(stored)

    async def test_differs_each_time(self, passwords: Passwords) -> None:
        assert await passwords.hash(PASSWORD) != await passwords.hash(PASSWORD)


class TestCheck:
    async def test_knows_the_right_password(self, passwords: Passwords) -> None:
        checked = await passwords.check(PASSWORD, stored=await passwords.hash(PASSWORD))

        assert checked.correct
        assert checked.new_hash is None

    @pytest.mark.parametrize(
        "password", ["", "wrong", PASSWORD + " ", PASSWORD + "\x00", "\ud800", "x" * 1024]
    )
    async def test_refuses_every_other_one(self, passwords: Passwords, password: str) -> None:
        checked = await passwords.check(password, stored=await passwords.hash(PASSWORD))

        assert not checked.correct

    async def test_takes_both_unicode_forms_as_one(self, passwords: Passwords) -> None:
        stored = await passwords.hash("cafe\u0301-au-quai")

        assert (await passwords.check("caf\u00e9-au-quai", stored=stored)).correct

    async def test_offers_a_new_hash_for_older_parameters(self, passwords: Passwords) -> None:
        older = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash(PASSWORD)

        checked = await passwords.check(PASSWORD, stored=older)

        assert checked.correct
        assert checked.new_hash is not None
        assert (await passwords.check(PASSWORD, stored=checked.new_hash)).correct

    async def test_of_nobody_does_the_same_work_and_fails(
        self, passwords: Passwords, hasher: QuickHasher
    ) -> None:
        checked = await passwords.check(PASSWORD, stored=None)

        assert not checked.correct
        assert hasher.checks == 1

    async def test_refuses_a_stored_hash_it_cannot_read(self, passwords: Passwords) -> None:
        assert not (await passwords.check(PASSWORD, stored="not a hash")).correct


class TestQueue:
    async def test_refuses_what_it_cannot_hold_and_recovers(
        self, passwords: Passwords, hasher: QuickHasher
    ) -> None:
        hasher.may_go_on.clear()
        waiting = [asyncio.create_task(passwords.check(PASSWORD, stored=None)) for _ in range(3)]
        await asyncio.sleep(0)  # lets the tasks reach the queue

        with pytest.raises(OverloadedError):
            await passwords.check(PASSWORD, stored=None)

        hasher.may_go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*waiting)
        assert [result.correct for result in results] == [False] * 3
        assert not (await passwords.check(PASSWORD, stored=None)).correct

    async def test_counts_a_check_until_its_thread_is_done_with_it(
        self, passwords: Passwords, hasher: QuickHasher
    ) -> None:
        hasher.may_go_on.clear()
        running, *waiting = (asyncio.create_task(passwords.check(PASSWORD, stored=None)) for _ in range(3))
        assert await asyncio.to_thread(hasher.started.wait, PATIENCE_S)

        for task in (running, *waiting):
            task.cancel()
        await asyncio.gather(running, *waiting, return_exceptions=True)

        await asyncio.sleep(0)  # what was only waiting is given back at once, the running one is not
        again = [asyncio.create_task(passwords.check(PASSWORD, stored=None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await passwords.check(PASSWORD, stored=None)
        hasher.may_go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*again)
