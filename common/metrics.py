"""The metrics every service has; a service adds its own beside the code that counts."""

from functools import lru_cache

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

REQUESTS = Counter("assay_http_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "assay_http_request_seconds",
    "Time from the first header to the last byte of the answer.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 10),
)
OUTBOX_PENDING = Gauge("assay_outbox_pending", "Rows that still have to be told.", ["target"])
OUTBOX_OLDEST_SECONDS = Gauge("assay_outbox_oldest_seconds", "Age of the oldest such row.", ["target"])
CIRCUIT_OPEN = Gauge("assay_circuit_open", "1 while calls to another service are not tried.", ["circuit"])
BATCH_SIZE = Histogram(
    "assay_batch_items",
    "Items that shared one batch.",
    ["batches"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
QUEUE_LENGTH = Gauge("assay_batch_waiting", "Items waiting for a batch.", ["batches"])


@lru_cache(maxsize=1024)
def request_metrics(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts and what times the requests of one kind."""
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


def metrics_response() -> Response:
    """Return all metrics of this process in Prometheus' text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
