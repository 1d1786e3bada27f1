"""Tells alert_service about flagged decisions."""

from collections.abc import Sequence

from common.auth.service_tokens import ServiceTokens
from common.circuit import Circuit
from common.contracts.alerts import AlertBatch, AlertRequest
from common.delivery import Courier, Delivery, deliver

TARGET = "alert"
PATH = "/v1/internal/alerts"


class AlertClient:
    """Raises alerts; what becomes of it is returned, never raised."""

    def __init__(self, client: Courier, tokens: ServiceTokens, *, circuit: Circuit | None = None) -> None:
        self._client = client
        self._tokens = tokens
        self._circuit = circuit

    async def raise_alerts(self, alerts: Sequence[AlertRequest]) -> Delivery:
        """Raise `alerts` together; nothing to raise is delivered at once."""
        if not alerts:
            return Delivery(TARGET, delivered=True)
        body = AlertBatch(alerts=tuple(alerts)).model_dump_json().encode()
        return await deliver(
            self._client,
            PATH,
            target=TARGET,
            body=body,
            headers=self._tokens.header,
            refused=self._tokens.was_refused,
            circuit=self._circuit,
        )
