"""Tells alert_service about flagged decisions."""

from collections.abc import Sequence

from common.clients.teller import Teller
from common.contracts.alerts import AlertBatch, AlertRequest
from common.delivery import Delivery

TARGET = "alert"
PATH = "/v1/internal/alerts"


class AlertClient(Teller):
    """Raises alerts."""

    async def raise_alerts(self, alerts: Sequence[AlertRequest]) -> Delivery:
        """Raise `alerts` together."""
        return await self._tell(TARGET, PATH, alerts, _body)


def _body(alerts: Sequence[AlertRequest]) -> bytes:
    return AlertBatch(alerts=tuple(alerts)).model_dump_json().encode()
