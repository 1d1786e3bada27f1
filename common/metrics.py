"""The metrics every service has; a service adds its own beside the code that counts.

Where several processes serve one port (`common.workers`), each writes what it counts into files of one folder, and
`/metrics` of any of them adds up all. A gauge says with its mode what all of them together show.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Never

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from common.background import Loop

PROCESSES = Gauge("assay_processes", "Processes that serve this port.", multiprocess_mode="livesum")
REQUESTS = Counter("assay_http_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "assay_http_request_seconds",
    "Time from the first header to the last byte of the answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 10),
)
OUTBOX_PENDING = Gauge(
    "assay_outbox_pending",
    "Rows that still have to be told; 10000 is that many or more.",
    ["target"],
    multiprocess_mode="livemostrecent",
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "assay_outbox_oldest_seconds",
    "Age of the oldest such row.",
    ["target"],
    multiprocess_mode="livemostrecent",
)
CIRCUIT_OPEN = Gauge(
    "assay_circuit_open",
    "1 while calls to another service are not tried.",
    ["circuit"],
    multiprocess_mode="livemax",
)
BATCH_SIZE = Histogram(
    "assay_batch_items",
    "Items that shared one batch.",
    ["batches"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
QUEUE_LENGTH = Gauge(
    "assay_batch_waiting", "Items waiting for a batch.", ["batches"], multiprocess_mode="livesum"
)
FOLLOW_S = 1.0
_followed: dict[Gauge, Callable[[], float]] = {}


@lru_cache(maxsize=1024)
def request_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts and what times the requests of one kind."""
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


def follow(gauge: Gauge, read: Callable[[], float]) -> None:
    """Let `gauge` show what `read` returns: when somebody looks, and with several processes every second."""
    if _counted_with_others():
        _followed[gauge] = read
    else:
        gauge.set_function(read)


async def keep_followed() -> Never:
    """Write down what is followed here, for the process that is asked for the metrics of all; runs until cancelled."""
    while True:
        _write_followed()
        await asyncio.sleep(FOLLOW_S)


def measuring() -> Sequence[Loop]:
    """Count this process, and return what has to run for its metrics."""
    PROCESSES.set(1)
    return [keep_followed] if _counted_with_others() else []


def metrics_response() -> Response:
    """Return all metrics of the processes that serve this port in Prometheus' text format."""
    if not _counted_with_others():
        return _written(generate_latest())
    _write_followed()
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return _written(generate_latest(together))


def _write_followed() -> None:
    for gauge, read in _followed.items():
        gauge.set(read())


def _counted_with_others() -> bool:
    # chosen by prometheus_client when it was imported
    return bool(values.ValueClass._multiprocess)


def _written(text: bytes) -> Response:
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
