"""The product as it is measured: every service a process, its answers checked against its database and its archive."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from bench.errors import BenchError
from bench.http_wire import post_head
from bench.machine import Cores, pin
from bench.processes import HOST, free_ports
from bench.stream import Stream
from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.evidence import Evidence
from local_stack.reading import reading_engine
from local_stack.settings import GeoProvider, StackSettings, Stores
from local_stack.stack import Stack, owned_stack

SCORE_PATH = "/v1/score"
STALLED_AFTER_S = 30.0
LOOK_S = 0.2
_NO_LIMITS = {"UNAUTHENTICATED_PER_MINUTE": "1000000", "FAILED_AUTHENTICATIONS_PER_MINUTE": "1000000"}
"""Everything comes from one address here."""
_PORT_SETTINGS = [name for name in StackSettings.model_fields if name.endswith("_port")]
_SAVED = text(
    "SELECT count(*) FROM idempotency_keys"
    " WHERE institution_id = :institution AND transaction_id > :low AND transaction_id < :high"
)
_SAVED_IDS = text(
    "SELECT transaction_id FROM idempotency_keys"
    " WHERE institution_id = :institution AND transaction_id > :low AND transaction_id < :high"
)
_FLAGGED = text(
    "SELECT count(*) FROM idempotency_keys AS k JOIN decisions AS d ON d.decision_id = k.decision_id WHERE d.flagged"
    " AND k.institution_id = :institution AND k.transaction_id > :low AND k.transaction_id < :high"
)
_PENDING = text("SELECT count(*) FROM outbox")


@dataclass
class Product:
    """One running stack, and the institution that sends payments to it."""

    name: str
    summary: str
    stack: Stack
    login: Login
    stream: Stream
    database: Engine
    connections: tuple[int, ...]
    api_key: str | None = field(default=None, repr=False)  # instead of tokens

    @property
    def url(self) -> str:
        """Return where payments are posted to."""
        return self.stack.url("ai_service") + SCORE_PATH

    @property
    def pids(self) -> Mapping[str, int]:
        """Return the processes of the stack."""
        return {name: child.pid for name, child in self.stack.children.items()}

    def head(self) -> bytes:
        """Return the first part of a request, with a token that was given just now or with the API key."""
        if self.api_key is not None:
            return post_head(SCORE_PATH, host=HOST, headers={"X-API-Key": self.api_key})
        token = access_token(self.stack.url("user_service"), self.login)
        return post_head(SCORE_PATH, host=HOST, headers={"Authorization": f"Bearer {token}"})

    def saved(self, tag: str) -> int:
        """Return how many transactions of a run are in the database."""
        return self._count(_SAVED, tag)

    def flagged(self, tag: str) -> int:
        """Return how many of a run's transactions are flagged."""
        return self._count(_FLAGGED, tag)

    def saved_ids(self, tag: str) -> set[str]:
        """Return the ids of a run's transactions that are in the database."""
        with self.database.connect() as connection:
            return set(connection.scalars(_SAVED_IDS, self._of_run(tag)))

    def batches(self) -> tuple[float, float]:
        """Return how many decisions were committed so far, and in how many batches."""
        metrics = _metrics(self.stack.url("ai_service"))
        return (
            metrics.get('assay_batch_items_sum{batches="decisions"}', 0.0),
            metrics.get('assay_batch_items_count{batches="decisions"}', 0.0),
        )

    def settle(self) -> float:
        """Wait until all that was told is archived; return how many seconds that took. Raises `BenchError`."""
        started = last_progress = time.monotonic()
        least = float("inf")
        while left := self._undelivered():
            self.stack.raise_if_ended()
            if left < least:
                least, last_progress = left, time.monotonic()
            if time.monotonic() > last_progress + STALLED_AFTER_S:
                raise BenchError(
                    f"{self.name}: {left:,} deliveries and records are stuck; see {self.stack.files.root / 'logs'}"
                )
            time.sleep(LOOK_S)
        return time.monotonic() - started

    def _undelivered(self) -> int:
        """Count what waits to be told, and what log_service has taken and not archived."""
        with self.database.connect() as connection:
            pending = _number(connection, _PENDING)
        return pending + int(_metrics(self.stack.url("log_service"))["assay_archive_spooled_records"])

    def lost_in_archive(self) -> tuple[int, int]:
        """Return how many decisions are saved, and how many of them the archive lacks or has twice."""
        store = self.stack.url("object_store")
        database = self.stack.storage.databases["ai_service"]
        evidence = Evidence(self.stack.files, self.login, object_store_url=store, database_url=database)
        with closing(evidence):
            archived = evidence.archived()
            saved = {kept.decision_id for kept in evidence.saved()}
        found = {kept.decision_id for kept in archived}
        return len(saved), len(saved ^ found) + len(archived) - len(found)

    def missing(self, tag: str, acknowledged: Collection[str]) -> int:
        """Return how many acknowledged ids of a run are not in the database."""
        return len(set(acknowledged) - self.saved_ids(tag))

    def _count(self, question: object, tag: str) -> int:
        with self.database.connect() as connection:
            return _number(connection, question, self._of_run(tag))

    def _of_run(self, tag: str) -> dict[str, str]:
        return {"institution": self.login.institution_id, "low": f"{tag}-", "high": f"{tag}."}


@contextmanager
def running_product(  # noqa: PLR0913 - what is run, on what, with what
    name: str,
    summary: str,
    *,
    folder: Path,
    models_dir: Path,
    stream: Stream,
    cores: Cores,
    connections: tuple[int, ...],
    environment: Mapping[str, str],
    stores: Stores = Stores.EMBEDDED,
) -> Iterator[Product]:
    """Yield a stack that is ready, ai_service on the server's core and everything else on the other one.

    Several workers of it may use both.
    """
    ports = dict(zip(_PORT_SETTINGS, free_ports(len(_PORT_SETTINGS)), strict=True))
    settings = StackSettings.model_validate({"var_dir": folder, "stores": stores, **ports})
    more = {"MODELS_DIR": str(models_dir.resolve()), **environment}
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        stack.parts = tuple(
            replace(
                part,
                environment={**part.environment, **_NO_LIMITS, **(more if part.name == "ai_service" else {})},
            )
            for part in stack.parts
        )
        stack.start()
        stack.await_ready()
        for part, child in stack.children.items():
            if part != "ai_service":
                pin(child.pid, cores.others)
            elif "WORKERS" not in environment:
                pin(child.pid, cores.server)
        login = register_sandbox(stack.url("user_service"), name=f"Bench {name}")
        database = reading_engine(stack.storage.databases["ai_service"])
        try:
            yield Product(name, summary, stack, login, stream, database, connections)
        finally:
            database.dispose()


def _number(connection: Connection, question: object, of: Mapping[str, str] | None = None) -> int:
    return int(connection.scalar(question, of or {}))  # type: ignore[call-overload]


def _metrics(url: str) -> dict[str, float]:
    """Return the metrics of a service, each by its name with its labels."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        lines = client.get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] not in "#"}
