"""Tells log_service about every decision, so that it is archived."""

from collections.abc import Sequence

import httpx

from common.auth.service_tokens import ServiceTokens
from common.contracts.audit_records import AuditBatch, AuditRecord
from common.http import Delivery, deliver

TARGET = "audit"
PATH = "/v1/internal/audit-records"


class LogClient:
    """Hands over audit records; what becomes of it is returned, never raised."""

    def __init__(self, client: httpx.AsyncClient, tokens: ServiceTokens) -> None:
        self._client = client
        self._tokens = tokens

    async def archive(self, records: Sequence[AuditRecord]) -> Delivery:
        """Hand over `records` together; nothing to hand over is delivered at once."""
        if not records:
            return Delivery(TARGET, delivered=True)
        body = AuditBatch(records=tuple(records)).model_dump_json().encode()
        return await deliver(self._client, PATH, target=TARGET, body=body, headers=self._tokens.header)
