"""The token that user_service shows to the other services: it signs it for itself."""

import time
from collections.abc import Callable

from common.clock import epoch_ms
from user_service.auth.service_clients import OWN_SCOPES
from user_service.auth.tokens import TokenIssuer

SUBJECT = "user_service"


class OwnToken:
    """Keeps one token at hand and signs the next at half its life. It belongs to one event loop."""

    def __init__(self, issuer: TokenIssuer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._token = ""
        self._renew_at = float("-inf")

    def header(self) -> dict[str, str]:
        """Return the Authorization header."""
        now = self._clock()
        if now >= self._renew_at:
            signed = self._issuer.for_service(SUBJECT, scopes=OWN_SCOPES, now_ms=epoch_ms())
            self._token, self._renew_at = signed.text, now + signed.expires_in / 2
        return {"Authorization": f"Bearer {self._token}"}
