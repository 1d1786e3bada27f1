"""Calls to other services: one client each, on the aiohttp transport, with the running request's id."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import structlog
from httpx_aiohttp import HttpxAiohttpClient

from common.errors import PlatformError

CONNECT_S = 0.3


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of telling another service; `error` names the kind of failure, never its content.

    `refused` means that the other side understood and will not take it: telling it again as it is will not help.
    """

    target: str
    delivered: bool
    error: str | None = None
    refused: bool = False


async def deliver(
    client: httpx.AsyncClient, path: str, *, target: str, body: bytes, headers: Callable[[], dict[str, str]]
) -> Delivery:
    """Post JSON `body` and report what became of it; never raises for anything the network can do."""
    try:
        response = await client.post(
            path, content=body, headers={**headers(), "Content-Type": "application/json"}
        )
    except (httpx.HTTPError, PlatformError, OSError) as error:
        return Delivery(target, delivered=False, error=type(error).__name__)
    if response.status_code == httpx.codes.ACCEPTED:
        return Delivery(target, delivered=True)
    refused = response.status_code in {400, 409, 413, 422}
    return Delivery(target, delivered=False, error=f"status {response.status_code}", refused=refused)


def service_client(base_url: str, *, timeout_s: float) -> httpx.AsyncClient:
    """Make the client for one other service; `timeout_s` bounds each call's wait for connection, write and read."""
    return HttpxAiohttpClient(
        base_url=base_url,
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
        follow_redirects=False,
        trust_env=False,
        event_hooks={"request": [_add_request_id]},
    )


async def _add_request_id(request: httpx.Request) -> None:
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id:
        request.headers["X-Request-ID"] = request_id
