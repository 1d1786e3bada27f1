"""Argon2id, in a few threads of its own so that the event loop never waits for it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from common.pools import BoundedPool, open_pool
from user_service.auth.password_rules import normalised

# OWASP's profile: 19 MiB, two passes, one lane; about 30 ms.
OWASP_ARGON2ID = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
# where all cores are busy, hashing gets a thirtieth of what others do: whoever guesses slows down nobody's transactions
NICENESS = 15


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether the password is right, and its hash by today's parameters where the stored one is by older ones."""

    correct: bool
    new_hash: str | None = None


class Passwords:
    """Hashes and checks passwords; raises `OverloadedError` while too many wait."""

    def __init__(self, pool: BoundedPool, hasher: PasswordHasher = OWASP_ARGON2ID) -> None:
        self._pool = pool
        self._hasher = hasher
        self._nobody = hasher.hash(secrets.token_urlsafe(32))

    def refuse_if_full(self) -> None:
        """Raise `OverloadedError` now where `check` would: whoever guesses in masses costs no statement then."""
        self._pool.refuse_if_full()

    async def hash(self, password: str) -> str:
        """Return what to store for `password`."""
        return await self._pool.run(lambda: self._hasher.hash(_bytes(password)))

    async def check(self, password: str, *, stored: str | None) -> PasswordCheck:
        """Compare `password` with a stored hash; without one (nobody has this address, or none was chosen yet) it takes as long."""
        return await self._pool.run(lambda: self._check(password, stored))

    def _check(self, password: str, stored: str | None) -> PasswordCheck:
        try:
            self._hasher.verify(stored or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return PasswordCheck(correct=False)
        if not stored:
            return PasswordCheck(correct=False)
        is_old = self._hasher.check_needs_rehash(stored)
        return PasswordCheck(correct=True, new_hash=self._hasher.hash(_bytes(password)) if is_old else None)


@asynccontextmanager
async def open_passwords(
    *, workers: int, queue: int, hasher: PasswordHasher = OWASP_ARGON2ID
) -> AsyncIterator[Passwords]:
    """Yield passwords with threads of their own, which end with the block."""
    refusal = "Too many passwords are waiting to be checked."
    async with open_pool(
        "password", workers=workers, queue=queue, refusal=refusal, niceness=NICENESS
    ) as pool:
        yield Passwords(pool, hasher)


def _bytes(password: str) -> bytes:
    # a half character (lone surrogate) can be sent but never stored: it has bytes, so it is simply wrong
    return normalised(password).encode("utf-8", "surrogatepass")
