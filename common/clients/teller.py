"""What all have in common that hand things of one kind to another service, many together."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from common.auth.service_tokens import TokenSource
from common.circuit import Circuit
from common.delivery import Courier, Delivery, deliver

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
        """Post the JSON that `body` makes of `items`; none at all are delivered at once, without a call."""
        if not items:
            return Delivery(target, delivered=True)
        return await deliver(
            self._client,
            path,
            target=target,
            body=body(items),
            headers=self._tokens.header,
            refused=self._tokens.was_refused,
            circuit=self._circuit,
        )
