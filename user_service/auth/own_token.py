"""The token that user_service shows to the other services: it signs it for itself."""

import time
from collections.abc import Callable

from common.clock import epoch_ms
from user_service.auth.service_clients import OWN_SCOPES
from user_service.auth.tokens import TokenIssuer

SUBJECT = "user_service"


class OwnToken:
    """Keeps one token at hand and signs the next at half its life, or when its key signs no more. It belongs to one event loop."""

    def __init__(self, issuer: TokenIssuer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._token = self._kid = ""
        self._renew_at = float("-inf")

    def header(self) -> dict[str, str]:
        """Return the Authorization header."""
        now, now_ms = self._clock(), epoch_ms()
        kid = self._issuer.keys.signing(now_ms).kid
        if now >= self._renew_at or kid != self._kid:
            signed = self._issuer.for_service(SUBJECT, scopes=OWN_SCOPES, now_ms=now_ms)
            self._token, self._renew_at, self._kid = signed.text, now + signed.expires_in / 2, kid
        return {"Authorization": f"Bearer {self._token}"}

    def was_refused(self) -> None:
        """Do nothing: when another key signs, the next header shows it; until its reader has the key, it waits."""
