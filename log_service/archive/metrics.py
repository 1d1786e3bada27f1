"""What the archive counts."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("assay_audit_records_total", "Records handed over, by what became of them.", ["result"])
SPOOLED = Gauge("assay_archive_spooled_records", "Records that wait in the spool with their body.")
SPOOLED_BYTES = Gauge("assay_archive_spooled_bytes", "Length of the bodies that wait in the spool.")
SPOOL_FILL = Gauge(
    "assay_archive_spool_fill_ratio", "How full the spool is, by SPOOL_MAX_RECORDS or SPOOL_MAX_BYTES."
)
OBJECTS_WAITING = Gauge("assay_archive_waiting_objects", "Objects that are sealed and not stored yet.")
OBJECTS = Counter(
    "assay_archive_objects_total", "Attempts to store an object, by what became of them.", ["result"]
)
TAMPERING = Counter(
    "assay_archive_tampering_total",
    "Signs of tampering: record (another body under a known id), object (something else under a key), "
    "content (an object that is not what was stored), spool (a body that changed before it was stored).",
    ["sign"],
)
REACHABLE = Gauge("assay_archive_reachable", "1 while the archive takes and gives objects, else 0.")
PUT_SECONDS = Histogram(
    "assay_archive_put_seconds",
    "Time to store one object.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
