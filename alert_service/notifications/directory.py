"""To whom an institution's mails go: asked from user_service, kept durably, used while user_service is away."""

import time
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import structlog
from pydantic import ValidationError

from alert_service.notifications import recipients_repository
from common.auth.service_tokens import ServiceTokens
from common.clock import epoch_ms
from common.contracts.institutions import Recipients
from common.errors import PlatformError
from common.http import answers_up_to
from common.writer import DatabaseWriter

AWAY_S = 5.0
MAX_ANSWER_BYTES = 1_048_576
_log = structlog.get_logger()


@dataclass
class RecipientDirectory:
    """Looks recipients up; the last copy is in the database."""

    writer: DatabaseWriter
    client: httpx.AsyncClient
    tokens: ServiceTokens
    max_age_ms: int
    _away_until: float = field(default=float("-inf"))

    async def recipients_of(self, institution_id: str) -> Recipients | None:
        """Return the recipients, at most `max_age_ms` old unless user_service is away; None if never known."""
        kept = await self.writer.run(lambda c: recipients_repository.known_recipients(c, institution_id))
        known, fetched_ms = kept or (None, 0)
        if known is not None and known.emails and 0 <= epoch_ms() - fetched_ms < self.max_age_ms:
            return known
        if known is not None and time.monotonic() < self._away_until:
            return known
        fetched = await self._fetch(institution_id)
        if fetched is None:
            self._away_until = time.monotonic() + AWAY_S  # a copy will do; do not wait for each mail anew
            return known
        await self.writer.run(lambda c: recipients_repository.keep_recipients(c, fetched, now_ms=epoch_ms()))
        return fetched

    async def _fetch(self, institution_id: str) -> Recipients | None:
        """Ask user_service; an institution that it does not know has nobody."""
        try:
            response = await self.client.get(
                f"/v1/internal/institutions/{quote(institution_id, safe='')}/recipients",
                headers=self.tokens.header(),
                extensions=answers_up_to(MAX_ANSWER_BYTES),
            )
            if response.status_code == httpx.codes.NOT_FOUND:
                return Recipients(institution_id=institution_id, institution_name="", emails=())
            response.raise_for_status()
            found = Recipients.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError, PlatformError, OSError) as error:
            _log.warning("recipients.not_fetched", error=type(error).__name__, institution_id=institution_id)
            return None
        if found.institution_id != institution_id:
            _log.error("recipients.of_another", institution_id=institution_id)
            return None
        return found
