"""What is measured over HTTP: the yardstick, the product, and the usual way, behind one face."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sqlalchemy import TextClause, make_url, text

from bench.http_wire import post_head
from bench.machine import Cores
from bench.processes import HOST, Server, uvicorn_server
from bench.product import SCORE_PATH, Product
from bench.stream import Stream
from local_stack import service_secrets
from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.parts import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from local_stack.reading import reading_engine
from local_stack.servers.databases import provide_databases

ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # scikit-learn's own threads make single rows slower
_NAIVE_SAVED = text("SELECT count(*) FROM decisions WHERE transaction_id > :low AND transaction_id < :high")
_FLOOR_SAVED = text(
    "SELECT count(*) FROM idempotency_keys WHERE transaction_id > :low AND transaction_id < :high"
)


class Target(Protocol):
    """Something that payments are posted to."""

    @property
    def name(self) -> str:
        """Return what its figures are called."""
        ...

    @property
    def connections(self) -> tuple[int, ...]:
        """Return at how many connections it is measured."""
        ...

    @property
    def url(self) -> str:
        """Return where payments are posted to."""
        ...

    @property
    def stream(self) -> Stream:
        """Return the payments that it gets."""
        ...

    @property
    def pids(self) -> Mapping[str, int]:
        """Return its processes; the one that answers is `server`."""
        ...

    def head(self) -> bytes:
        """Return the first part of a request."""
        ...

    def saved(self, tag: str) -> int | None:
        """Return how many transactions of a run are in its database; None without one."""
        ...

    def flagged(self, tag: str) -> int | None:
        """Return how many transactions of a run are flagged; None where that is not known."""
        ...

    def batches(self) -> tuple[float, float]:
        """Return how many decisions were committed so far, and in how many batches."""
        ...

    def settle(self) -> float:
        """Wait until nothing is left to do; return how many seconds that took."""
        ...


@dataclass
class Echo:
    """The yardstick."""

    server: Server
    stream: Stream
    connections: tuple[int, ...]
    name: str = "echo"

    @property
    def url(self) -> str:
        """Return where payments are posted to."""
        return self.server.url + SCORE_PATH

    @property
    def pids(self) -> Mapping[str, int]:
        """Return its one process."""
        return {"echo": self.server.pid}

    def head(self) -> bytes:
        """Return the first part of a request, as long as one with a token."""
        return post_head(SCORE_PATH, host=HOST, headers={"Authorization": "Bearer " + "x" * 700})

    def saved(self, tag: str) -> int | None:
        """Return None: it saves nothing."""

    def flagged(self, tag: str) -> int | None:
        """Return None: it decides nothing."""

    def batches(self) -> tuple[float, float]:
        """Return no batches."""
        return 0.0, 0.0

    def settle(self) -> float:
        """Return at once: it leaves nothing undone."""
        return 0.0


@dataclass
class Floor:
    """The product's saving and telling alone; it tells the services of `product`."""

    name: str
    server: Server
    product: Product
    login: Login
    stream: Stream
    database_url: str
    connections: tuple[int, ...]

    @property
    def url(self) -> str:
        """Return where payments are posted to."""
        return self.server.url + SCORE_PATH

    @property
    def pids(self) -> Mapping[str, int]:
        """Return its process, the one it tells, and PostgreSQL where it saves there."""
        beside = {
            name: pid for name, pid in self.product.pids.items() if name in {"log_service", "postgresql"}
        }
        return {"floor": self.server.pid, **beside}

    def head(self) -> bytes:
        """Return the first part of a request."""
        token = access_token(self.product.stack.url("user_service"), self.login)
        return post_head(SCORE_PATH, host=HOST, headers={"Authorization": f"Bearer {token}"})

    def saved(self, tag: str) -> int | None:
        """Return how many transactions of a run are in its database."""
        return _count(self.database_url, _FLOOR_SAVED, tag)

    def flagged(self, tag: str) -> int | None:
        """Return None: it decides nothing."""

    def batches(self) -> tuple[float, float]:
        """Return no batches."""
        return 0.0, 0.0

    def settle(self) -> float:
        """Wait until what it told is archived, so that it costs nobody else."""
        return self.product.settle()


@dataclass
class Naive:
    """The usual way: its own scoring and log services, the product's GeoIP and alert services."""

    name: str
    server: Server
    log: Server
    product: Product
    stream: Stream
    database: Path
    connections: tuple[int, ...]
    head: Callable[[], bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.head = self.product.head

    @property
    def url(self) -> str:
        """Return where payments are posted to."""
        return self.server.url + SCORE_PATH

    @property
    def pids(self) -> Mapping[str, int]:
        """Return its processes and those of the product that it calls."""
        called = ("external_apis_services", "alert_service", "object_store")
        return {
            "naive": self.server.pid,
            "naive_log": self.log.pid,
            **{name: self.product.pids[name] for name in called},
        }

    def saved(self, tag: str) -> int | None:
        """Return how many transactions of a run are in its database."""
        return _count(f"sqlite:///{self.database}", _NAIVE_SAVED, tag)

    def flagged(self, tag: str) -> int | None:
        """Return None: it keeps no such mark."""

    def batches(self) -> tuple[float, float]:
        """Return no batches."""
        return 0.0, 0.0

    def settle(self) -> float:
        """Wait until the alerts it raised are told, so that they cost nobody else."""
        return self.product.settle()


@contextmanager
def running_echo(
    folder: Path, stream: Stream, *, cores: Cores, connections: tuple[int, ...]
) -> Iterator[Echo]:
    """Start the yardstick."""
    with uvicorn_server(
        "bench.echo:app", core=cores.server, log=folder / "echo.log", environment={}
    ) as server:
        yield Echo(server, stream, connections)


@contextmanager
def running_floor(
    name: str, product: Product, *, folder: Path, stream: Stream, cores: Cores, connections: tuple[int, ...]
) -> Iterator[Floor]:
    """Start the floor beside `product`, whose settings and log_service it shares, with data of its own.

    Where `product` is on PostgreSQL it saves there too; it never asks Valkey.
    """
    folder.mkdir(parents=True, exist_ok=True)
    storage = product.stack.storage
    database_url = f"sqlite:///{folder / 'floor.db'}"
    if storage.admin_url:
        beside = make_url(storage.databases["ai_service"]).set(database="assay_floor")
        database_url = beside.render_as_string(hide_password=False)
        provide_databases(storage.admin_url, {name: database_url})
    (part,) = (part for part in product.stack.parts if part.name == "ai_service")
    environment = {
        **{setting: value for setting, value in part.environment.items() if setting != "VALKEY_URL"},
        "DATABASE_URL": database_url,
        "VELOCITY_SNAPSHOT": str(folder / "velocity.npz"),
    }
    login = register_sandbox(product.stack.url("user_service"), name=f"Bench {name}")
    with uvicorn_server(
        "bench.floor:app", core=cores.server, log=folder / "floor.log", environment=environment
    ) as server:
        yield Floor(name, server, product, login, stream, database_url, connections)


@contextmanager
def running_naive(
    name: str,
    product: Product,
    *,
    folder: Path,
    model_folder: Path,
    rules_file: Path,
    stream: Stream,
    cores: Cores,
    client_per_call: bool,
) -> Iterator[Naive]:
    """Start the usual way beside `product`, whose institution it scores for."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "naive.db"
    log_settings = {
        "S3_ENDPOINT_URL": product.stack.url("object_store"),
        "S3_BUCKET": f"{name}-archive".lower().replace("_", "-"),
        "S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }
    with uvicorn_server(
        "bench.naive.log:app", core=cores.others, log=folder / "log.log", environment=log_settings
    ) as log:
        settings = {
            **ONE_THREAD,
            "DATABASE_URL": f"sqlite:///{database}",
            "MODEL_FOLDER": str(model_folder),
            "RULES_FILE": str(rules_file),
            "USER_SERVICE_URL": product.stack.url("user_service"),
            "GEOIP_URL": product.stack.url("external_apis_services"),
            "ALERT_URL": product.stack.url("alert_service"),
            "LOG_URL": log.url,
            "CLIENT_SECRET": service_secrets.load_or_make(product.stack.files)["AI_SERVICE_SECRET"],
            "CLIENT_PER_CALL": str(client_per_call),
        }
        with uvicorn_server(
            "bench.naive.scoring:app",
            core=cores.server,
            log=folder / "scoring.log",
            environment=settings,
        ) as server:
            yield Naive(name, server, log, product, stream, database, connections=(32,))


def _count(database_url: str, question: TextClause, tag: str) -> int:
    """Return how many rows of a run are in a database."""
    engine = reading_engine(database_url)
    with closing(engine.connect()) as connection:
        count = connection.scalar(question, {"low": f"{tag}-", "high": f"{tag}."})
    engine.dispose()
    return int(count or 0)
