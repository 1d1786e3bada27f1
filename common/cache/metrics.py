"""How often caches had what was asked for, by namespace and by where it was."""

from prometheus_client import Counter, Gauge

HITS = Counter(
    "assay_cache_hits_total", "Values that were there, in the process or in Valkey.", ["namespace", "tier"]
)
MISSES = Counter("assay_cache_misses_total", "Values that had to be made or fetched.", ["namespace"])
ITEMS = Gauge(
    "assay_cache_items", "Values that the process keeps.", ["namespace"], multiprocess_mode="livesum"
)
INVALIDATED = Counter(
    "assay_cache_invalidated_total", "Values that were said to be out of date.", ["namespace"]
)
