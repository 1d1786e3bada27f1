"""Hands audit records to log_service, so that they are archived."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from common.clients.teller import Teller
from common.delivery import Delivery

TARGET = "audit"
PATH = "/v1/internal/audit-records"


class LogClient(Teller):
    """Archives audit records."""

    async def archive(self, records: Sequence[Mapping[str, Any]]) -> Delivery:
        """Hand over `records` (each as `AuditRecord` has it) together."""
        return await self._tell(TARGET, PATH, records, lambda all_of: orjson.dumps({"records": all_of}))
