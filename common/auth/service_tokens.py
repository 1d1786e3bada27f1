"""The token this service shows to the others: fetched with client credentials, renewed at half its life."""

import asyncio
import time
from contextlib import suppress
from typing import Protocol

import httpx
import structlog
from pydantic import ValidationError

from common.contracts.tokens import ServiceToken, ServiceTokenRequest
from common.errors import UnavailableError

RETRY_S = 1.0
MAX_RETRY_S = 10.0  # after refusals: who asks on and on takes the place of others at the same address
_log = structlog.get_logger()


class TokenSource(Protocol):
    """Where those who call other services get the header that lets them in."""

    def header(self) -> dict[str, str]:
        """Return the Authorization header; raises `PlatformError` when there is none to show."""
        ...

    def was_refused(self) -> None:
        """Learn that the token at hand was answered with a 401, so that another one is due."""
        ...


class ServiceTokens:
    """Keeps one token at hand; while user_service is away the last one is used until it expires."""

    def __init__(self, client: httpx.AsyncClient, *, credentials: ServiceTokenRequest) -> None:
        self._client = client
        self._credentials = credentials
        self._token = ""
        self._expires = self._renew_at = float("-inf")
        self._asked = float("-inf")
        self._first = asyncio.Event()
        self._wanted = asyncio.Event()
        self._refusals = 0
        self._unanswered = False

    @property
    def unanswered(self) -> bool:
        """Whether user_service had nothing to say when it was last asked: neither a token nor a refusal."""
        return self._unanswered

    @property
    def available(self) -> bool:
        """Whether a token is at hand that has not expired."""
        return time.monotonic() < self._expires

    @property
    def next_try_s(self) -> float:
        """Return in how many seconds `keep_fresh` asks again."""
        return max(RETRY_S, self._renew_at - time.monotonic())

    async def wait(self) -> None:
        """Wait until there has been a token."""
        await self._first.wait()

    def header(self) -> dict[str, str]:
        """Return the Authorization header; raises `UnavailableError` when there is no token to show."""
        if not self.available:
            raise UnavailableError("There is no service token yet.")
        return {"Authorization": f"Bearer {self._token}"}

    def was_refused(self) -> None:
        """Let `keep_fresh` fetch another token at once, ten seconds after the last time at the earliest.

        Keys that sign tokens may end before the tokens do: then this is how a service learns of it.
        """
        if time.monotonic() - self._asked >= MAX_RETRY_S:
            self._wanted.set()

    async def keep_fresh(self) -> None:
        """Fetch a token now, at half of each one's life, and when one was refused; runs until cancelled."""
        while True:
            self._wanted.clear()
            await self.renew()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.next_try_s):
                    await self._wanted.wait()

    async def renew(self) -> bool:
        """Fetch a token once; return whether that worked."""
        asked = self._asked = time.monotonic()
        body = {
            "client_id": self._credentials.client_id,
            "client_secret": self._credentials.client_secret.get_secret_value(),
        }
        try:
            response = await self._client.post("/v1/internal/service-tokens", json=body)
            response.raise_for_status()
            token = ServiceToken.model_validate_json(response.content)
        except (httpx.HTTPError, ValidationError) as error:
            _log.warning("service_token.not_fetched", error=type(error).__name__)
            self._unanswered = not _is_refusal(error)
            self._refusals = 0 if self._unanswered else self._refusals + 1
            self._renew_at = asked + min(MAX_RETRY_S, RETRY_S * 2 ** min(self._refusals, 8))
            return False
        self._token = token.access_token
        self._first.set()
        self._refusals, self._unanswered = 0, False
        self._expires = asked + token.expires_in
        self._renew_at = asked + token.expires_in / 2
        return True


def _is_refusal(error: Exception) -> bool:
    """Say whether user_service is there and does not want to give a token now."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 429}
