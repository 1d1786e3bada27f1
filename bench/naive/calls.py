"""Calls to the other services with httpx: one client for all, or a new one for each call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Calls:
    """Calls other services as this service; `shared` is the one client, None makes a new one for each call."""

    shared: httpx.AsyncClient | None
    token: str

    async def get(self, url: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON that is found at `url`."""
        async with self._client() as client:
            response = await client.get(url, headers=self._headers())
        response.raise_for_status()
        return response.json()

    async def post(self, url: str, body: object) -> None:
        """Post `body` as JSON."""
        async with self._client() as client:
            response = await client.post(url, json=body, headers=self._headers())
        response.raise_for_status()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        if self.shared is not None:
            yield self.shared
            return
        async with httpx.AsyncClient(timeout=30) as client:
            yield client
