"""Transactions that are being scored right now, so that a repeated id waits for the first instead of running too."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from common.contracts.transactions import Transaction
from common.errors import PlatformError, UnavailableError


class TransactionIdReusedError(PlatformError):
    """The id was used before for a transaction with other contents."""

    status_code = 409
    type = "transaction-id-reused"
    title = "This transaction_id was used before with another body"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transaction is answered.

    `body` is the JSON of a `ScoredTransaction`; `facts` are what the log says of it; `replayed` when it had been
    decided before.
    """

    body: bytes
    facts: dict[str, Any]
    replayed: bool


class Entry:
    """One transaction that is being scored: its body, and where others wait for its answer.

    As a context it holds the id while the block runs; an error of the block goes to those who wait too.
    """

    __slots__ = ("_answer", "_entries", "_key", "body")

    def __init__(self, entries: dict[tuple[str, str], "Entry"], key: tuple[str, str], body: bytes) -> None:
        self.body = body
        self._entries = entries
        self._key = key
        self._answer: asyncio.Future[Answer] | None = None  # made for the first one who waits

    def set(self, answer: Answer) -> Answer:
        """Give `answer` to everybody who waits, and return it."""
        if self._answer is not None:
            self._answer.set_result(answer)
        return answer

    def answer(self) -> Awaitable[Answer]:
        """Return what to wait for; the first one's answer is a replay for whoever waits."""
        return _replayed(self._awaited())

    def end(self) -> Awaitable[None]:
        """Return what to wait for with another body; raises `TransactionIdReusedError` once this one is answered."""
        return _refused_after(self._awaited())

    def _awaited(self) -> asyncio.Future[Answer]:
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def __enter__(self) -> Self:
        self._entries[self._key] = self
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        del self._entries[self._key]
        if error is not None and self._answer is not None:
            self._answer.set_exception(error if isinstance(error, Exception) else UnavailableError())
            self._answer.exception()  # with nobody left who waits, nobody is to be told


async def _replayed(answer: asyncio.Future[Answer]) -> Answer:
    first = await asyncio.shield(answer)
    return Answer(first.body, first.facts, replayed=True)


async def _refused_after(answer: asyncio.Future[Answer]) -> None:
    try:
        await asyncio.shield(answer)
    except Exception:  # noqa: BLE001 - theirs, and told them; perhaps it was the one with the wrong body
        return
    raise TransactionIdReusedError


class InFlight:
    """All entries, by institution and transaction id."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def find(self, institution_id: str, transaction: Transaction) -> Awaitable[Answer | None] | None:
        """Return what to wait for if the same id is being scored: its answer, or None when it has to be tried.

        Waiting raises `TransactionIdReusedError` when the id was answered with another body.
        """
        entry = self._entries.get((institution_id, transaction.transaction_id))
        if entry is None:
            return None
        return entry.answer() if entry.body == transaction.body else entry.end()

    def entry(self, institution_id: str, transaction: Transaction) -> Entry:
        """Return the entry that holds the id while its block runs."""
        return Entry(self._entries, (institution_id, transaction.transaction_id), transaction.body)
