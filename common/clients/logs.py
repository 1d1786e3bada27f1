"""Hands audit records to log_service, so that they are archived."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from common.auth.service_tokens import TokenSource
from common.circuit import Circuit
from common.delivery import Courier, Delivery, deliver

TARGET = "audit"
PATH = "/v1/internal/audit-records"


class LogClient:
    """Hands over audit records; what becomes of it is returned, never raised."""

    def __init__(self, client: Courier, tokens: TokenSource, *, circuit: Circuit | None = None) -> None:
        self._client = client
        self._tokens = tokens
        self._circuit = circuit

    async def archive(self, records: Sequence[Mapping[str, Any]]) -> Delivery:
        """Hand over `records` (each as `AuditRecord` has it) together; nothing to hand over is delivered at once."""
        if not records:
            return Delivery(TARGET, delivered=True)
        body = orjson.dumps({"records": records})
        return await deliver(
            self._client,
            PATH,
            target=TARGET,
            body=body,
            headers=self._tokens.header,
            refused=self._tokens.was_refused,
            circuit=self._circuit,
        )
