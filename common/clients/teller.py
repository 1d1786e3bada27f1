"""What all have in common that hand things of one kind to another service, many together."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from common.auth.service_tokens import TokenSource
from common.circuit import Circuit
from common.delivery import Courier, Delivery, deliver

MAX_CALL_BYTES = 3_000_000
"""More than this is told in several calls: who is told reads 4 MB at most (`MAX_BODY_BYTES`)."""
ItemT = TypeVar("ItemT")


class Teller:
    """Hands things over with this service's own token; what becomes of it is returned, never raised."""

    def __init__(self, client: Courier, tokens: TokenSource, *, circuit: Circuit | None = None) -> None:
        self._client = client
        self._tokens = tokens
        self._circuit = circuit

    async def _tell(
        self, target: str, path: str, items: Sequence[ItemT], body: Callable[[Sequence[ItemT]], bytes]
    ) -> Delivery:
        """Post the JSON that `body` makes of `items`; none at all are delivered at once, without a call.

        What is too long for one call goes in halves, one after the other; the first that fails stands for all of them.
        """
        if not items:
            return Delivery(target, delivered=True)
        text = body(items)
        if len(text) > MAX_CALL_BYTES and len(items) > 1:
            middle = len(items) // 2
            first = await self._tell(target, path, items[:middle], body)
            return await self._tell(target, path, items[middle:], body) if first.delivered else first
        return await deliver(
            self._client,
            path,
            target=target,
            body=text,
            headers=self._tokens.header,
            refused=self._tokens.was_refused,
            circuit=self._circuit,
        )
