"""What one call between two services costs at least: a bare ASGI answer, one request at a time."""

import http.client
import time

from starlette.types import Receive, Scope, Send

from bench.quantiles import quantiles

CALLS = 500
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request alike."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


def hop_ms(host: str, port: int) -> float:
    """Return the median time of a round trip over one kept connection."""
    took = []
    connection = http.client.HTTPConnection(host, port, timeout=5)
    for _ in range(CALLS):
        started = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        took.append((time.perf_counter() - started) * 1000)
    connection.close()
    return quantiles(took).p50
