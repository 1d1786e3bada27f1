"""Argon2id, in a few threads of its own so that the event loop never waits for it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from common.errors import OverloadedError
from user_service.auth.password_rules import normalised

# OWASP's profile: 19 MiB, two passes, one lane; about 30 ms.
OWASP_ARGON2ID = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether the password is right, and its hash by today's parameters where the stored one is by older ones."""

    correct: bool
    new_hash: str | None = None


class Passwords:
    """Hashes and checks passwords. At most `queue` wait for a thread; the next one gets `OverloadedError`."""

    def __init__(
        self, pool: ThreadPoolExecutor, *, limit: int, hasher: PasswordHasher = OWASP_ARGON2ID
    ) -> None:
        self._pool = pool
        self._limit = limit
        self._pending = 0
        self._hasher = hasher
        self._nobody = hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        """Return what to store for `password`."""
        return await self._in_pool(lambda: self._hasher.hash(_bytes(password)))

    async def check(self, password: str, *, stored: str | None) -> PasswordCheck:
        """Compare `password` with a stored hash; without one (nobody has this address) it takes as long."""
        return await self._in_pool(lambda: self._check(password, stored))

    def _check(self, password: str, stored: str | None) -> PasswordCheck:
        try:
            self._hasher.verify(stored or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return PasswordCheck(correct=False)
        if stored is None:
            return PasswordCheck(correct=False)
        is_old = self._hasher.check_needs_rehash(stored)
        return PasswordCheck(correct=True, new_hash=self._hasher.hash(_bytes(password)) if is_old else None)

    async def _in_pool(self, work: Callable[[], ResultT]) -> ResultT:
        if self._pending >= self._limit:
            raise OverloadedError("Too many passwords are waiting to be checked.")
        self._pending += 1
        loop = asyncio.get_running_loop()
        job = self._pool.submit(work)
        # counted until the thread is done with it, also when its caller has gone away
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(job)

    def _done(self) -> None:
        self._pending -= 1


@asynccontextmanager
async def open_passwords(
    *, workers: int, queue: int, hasher: PasswordHasher = OWASP_ARGON2ID
) -> AsyncIterator[Passwords]:
    """Yield passwords with threads of their own, which end with the block."""
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="password")
    try:
        yield Passwords(pool, limit=workers + queue, hasher=hasher)
    finally:
        await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)


def _bytes(password: str) -> bytes:
    # a half character (lone surrogate) can be sent but never stored: it has bytes, so it is simply wrong
    return normalised(password).encode("utf-8", "surrogatepass")
