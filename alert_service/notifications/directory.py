"""To whom an institution's mails go: asked from user_service, kept durably, used while user_service is away."""

from dataclasses import dataclass

import httpx
import structlog
from pydantic import ValidationError

from alert_service.notifications import repository
from common.auth.service_tokens import ServiceTokens
from common.clock import epoch_ms
from common.contracts.institutions import Recipients
from common.errors import PlatformError
from common.writer import DatabaseWriter

_log = structlog.get_logger()


@dataclass(frozen=True)
class RecipientDirectory:
    """Looks recipients up; the last copy is in the database."""

    writer: DatabaseWriter
    client: httpx.AsyncClient
    tokens: ServiceTokens
    max_age_ms: int

    async def recipients_of(self, institution_id: str) -> Recipients | None:
        """Return the recipients, at most `max_age_ms` old unless user_service is away; None if never known."""
        known = await self.writer.run(lambda c: repository.known_recipients(c, institution_id))
        if known is not None and known[0].emails and 0 <= epoch_ms() - known[1] < self.max_age_ms:
            return known[0]
        fetched = await self._fetch(institution_id)
        if fetched is None:
            return None if known is None else known[0]
        await self.writer.run(lambda c: repository.keep_recipients(c, fetched, now_ms=epoch_ms()))
        return fetched

    async def _fetch(self, institution_id: str) -> Recipients | None:
        try:
            response = await self.client.get(
                f"/v1/internal/institutions/{institution_id}/recipients", headers=self.tokens.header()
            )
            response.raise_for_status()
            return Recipients.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError, PlatformError, OSError) as error:
            _log.warning("recipients.not_fetched", error=type(error).__name__, institution_id=institution_id)
            return None
