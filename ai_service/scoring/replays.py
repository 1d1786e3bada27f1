"""Answers a transaction that was decided before without deciding anything: for those who may decide no more."""

from dataclasses import dataclass

from ai_service.scoring import repository
from ai_service.scoring.in_flight import Answer, TransactionIdReusedError
from ai_service.scoring.publisher import Publisher, replay_of
from common.canonical import sha256_hex
from common.contracts.transactions import Transaction
from common.writer import DatabaseWriter


@dataclass(frozen=True)
class Replays:
    """Looks saved decisions up by the ids of their transactions."""

    reader: DatabaseWriter
    publisher: Publisher

    async def find(self, institution_id: str, transaction: Transaction) -> Answer | None:
        """Return what was answered before, None for an id that is new; raises `TransactionIdReusedError`."""
        told = self.publisher.told_lately()
        saved = await self.reader.run(
            lambda c: repository.find_by_transaction(c, institution_id, transaction.transaction_id)
        )
        if saved is None:
            return None
        if saved.body_sha256 != sha256_hex(transaction.body):
            raise TransactionIdReusedError
        return replay_of(saved.without(told))
