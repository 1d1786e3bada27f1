"""Transactions that are being scored right now, so that a repeated id waits for the first instead of running too."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.contracts.decisions import ScoredTransaction
from common.contracts.transactions import Transaction
from common.errors import PlatformError, UnavailableError


class TransactionIdReusedError(PlatformError):
    """The id was used before for a transaction with other contents."""

    status_code = 409
    type = "transaction-id-reused"
    title = "This transaction_id was used before with another body"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transaction is answered; `replayed` when it had been decided before."""

    scored: ScoredTransaction
    replayed: bool


class Entry:
    """One transaction that is being scored: its body, and where others wait for its answer."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def set(self, answer: Answer) -> Answer:
        """Give `answer` to everybody who waits, and return it."""
        self._answer.set_result(answer)
        return answer

    def fail(self, error: BaseException) -> None:
        """Give everybody who waits the error that the first one met."""
        self._answer.set_exception(error if isinstance(error, Exception) else UnavailableError())
        self._answer.exception()  # with nobody waiting, nobody is to be told

    async def wait(self) -> Answer:
        """Wait for the first one's answer; it is a replay for the one who waits."""
        answer = await asyncio.shield(self._answer)
        return Answer(answer.scored, replayed=True)


class InFlight:
    """All entries, by institution and transaction id."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def find(self, institution_id: str, transaction: Transaction) -> Awaitable[Answer] | None:
        """Return what to wait for if the same transaction is being scored.

        Raises `TransactionIdReusedError` when its id is being scored with another body.
        """
        entry = self._entries.get((institution_id, transaction.transaction_id))
        if entry is None:
            return None
        if entry.body != transaction.body:
            raise TransactionIdReusedError
        return entry.wait()

    @contextmanager
    def entry(self, institution_id: str, transaction: Transaction) -> Iterator[Entry]:
        """Hold the id while the block runs; an error of the block goes to those who wait too."""
        key = (institution_id, transaction.transaction_id)
        entry = self._entries[key] = Entry(transaction.body)
        try:
            yield entry
        except BaseException as error:
            entry.fail(error)
            raise
        finally:
            del self._entries[key]
