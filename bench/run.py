"""One run of the bench over HTTP: starts what is asked for, measures it interleaved, and yields figures."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from ai_service.features.definitions import FEATURE_NAMES
from bench.comparisons import comparisons, losses
from bench.figures import Aim, Better, Figure
from bench.hop import hop_ms
from bench.identity import identity_figures, new_key
from bench.machine import Cores, fdatasync_ms
from bench.paced import cached, half_load, overload
from bench.processes import HOST, Server, uvicorn_server
from bench.product import Product, running_product
from bench.profile import profile_figures, sampling
from bench.rounds import Rounds
from bench.stream import Stream, load_stream
from bench.targets import Target, running_echo, running_floor, running_naive
from bench.variants import (
    FLOORS,
    FULL,
    LEAN,
    LEAN_SERVERS,
    LEAN_WORKERS,
    WORKERS,
    Variant,
    provide_variant,
    workers_can_be_chosen,
)
from bench.wrk import provide_wrk
from common.clock import utc_now
from local_stack.settings import Stores

HALF_OF = 32  # connections at which the capacity is taken that half-load is half of
BESIDE = ("echo", "floor")  # measured at the same half load
MULTIPLES_OF = 128  # and the one that overload is a multiple of


class Row(StrEnum):
    """What can be measured."""

    ECHO = "echo"
    FLOOR = "floor"
    LEAN = "lean"
    FULL = "full"
    NAIVE = "naive"
    HALF = "half"
    OVERLOAD = "overload"
    IDENTITY = "identity"
    PARTS = "parts"
    SERVERS = "servers"
    WORKERS = "workers"
    CACHED = "cached"
    PROFILE = "profile"


EVERYTHING = frozenset(Row) - {Row.PROFILE}
OVER_HTTP = frozenset(Row) - {Row.PARTS}
NEEDS_SERVERS = frozenset({Row.SERVERS, Row.WORKERS, Row.CACHED})
NEEDS_LEAN = frozenset(Row) - {Row.ECHO, Row.FULL, Row.PARTS} - NEEDS_SERVERS


@dataclass(frozen=True)
class Size:
    """How much is measured: rounds of so many seconds, at so many connections."""

    rounds: int
    seconds: int
    connections: tuple[int, ...]
    customers: int
    paced_seconds: float


WHOLE = Size(rounds=3, seconds=8, connections=(1, 32, 128), customers=50_000, paced_seconds=20)
QUICK = Size(rounds=1, seconds=2, connections=(32, 128), customers=5_000, paced_seconds=3)


@dataclass
class Bench:
    """What one run needs, made as it goes. Everything it keeps is below `home`; the data of a run is `home`/run."""

    home: Path
    cores: Cores
    size: Size
    rows: frozenset[Row]
    say: Callable[[str], None]
    rounds: Rounds = field(init=False)

    def __post_init__(self) -> None:
        self.rounds = Rounds(self.folder, self.cores, self.say)

    @property
    def folder(self) -> Path:
        """Return where the databases, objects and logs of this run are."""
        return self.home / "run"

    def figures(self) -> Iterator[Figure]:
        """Measure, and yield what was found; raises `BenchError` and `StackError`."""
        provide_wrk()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with ExitStack() as until_done:
            hop = until_done.enter_context(
                uvicorn_server(
                    "bench.hop:app", core=self.cores.server, log=self.folder / "hop.log", environment={}
                )
            )
            products = self._products(until_done)
            targets = self._targets(until_done, products)
            for product in products.values():
                self.say(f"Filling the caches of {product.name}")
                self.rounds.fill_caches(product)
            yield from self._floor(hop, "before")
            self.rounds.run(targets, rounds=self.size.rounds, seconds=self.size.seconds)
            yield from self._floor(hop, "after")
            summaries = {name: product.summary for name, product in products.items()}
            summaries |= dict.fromkeys(FLOORS, "saving and telling alone")
            yield from comparisons(self.rounds, default_features=len(FEATURE_NAMES), summaries=summaries)
            yield from losses(self.rounds)
            if LEAN in products:
                yield from self._paced(products[LEAN], [each for each in targets if each.name in BESIDE])
                yield from self._identity(products[LEAN])
            if Row.CACHED in self.rows:
                self.say(f"{LEAN_SERVERS}: whom it knows, at a modest rate")
                product = products[LEAN_SERVERS]
                yield from cached(
                    replace(product, api_key=new_key(product)),
                    tag=self.rounds.next_tag(),
                    seconds=self.size.paced_seconds,
                    cores=self.cores,
                )
            if Row.PROFILE in self.rows:
                yield from self._profile(products[LEAN])
            for product in products.values():
                yield from self._archive(product)
        shutil.rmtree(self.folder)  # gigabytes; after a failure it stays, with its logs

    def _products(self, until_done: ExitStack) -> dict[str, Product]:
        names = [name for name, is_needed in (
            (LEAN, self.rows & NEEDS_LEAN), (FULL, Row.FULL in self.rows)
        ) if is_needed]  # fmt: skip
        products = {name: until_done.enter_context(self._product(name)) for name in names}
        if self.rows & NEEDS_SERVERS:
            products[LEAN_SERVERS] = until_done.enter_context(self._on_servers(LEAN_SERVERS, workers=1))
        if Row.WORKERS in self.rows and not workers_can_be_chosen():
            self.say("ai_service has no setting for its workers: that row is left out")
        elif Row.WORKERS in self.rows:
            several = self._on_servers(LEAN_WORKERS, workers=WORKERS)
            products[LEAN_WORKERS] = until_done.enter_context(several)
        return products

    def _targets(self, until_done: ExitStack, products: dict[str, Product]) -> list[Target]:
        """Start what is measured in rounds; those that answer nothing else are the last."""
        targets: list[Target] = []
        if Row.ECHO in self.rows:
            stream, connections = self._stream(), self.size.connections
            echo = running_echo(self.folder, stream, cores=self.cores, connections=connections)
            targets.append(until_done.enter_context(echo))
        if Row.FLOOR in self.rows:
            targets += (
                until_done.enter_context(self._saving_alone(name, products[of]))
                for name, of in FLOORS.items()
                if of in products
            )
        targets += products.values()
        if Row.NAIVE in self.rows:
            for client_per_call in (False, True):
                naive = self._naive(products[LEAN], client_per_call=client_per_call)
                targets.append(until_done.enter_context(naive))
        return targets

    def _saving_alone(self, name: str, product: Product) -> AbstractContextManager[Target]:
        self.say(f"Starting {name}: the saving and telling of {product.name} alone")
        return running_floor(
            name,
            product,
            folder=self.folder / name,
            stream=self._stream(),
            cores=self.cores,
            connections=product.connections,
        )

    def _product(self, name: str) -> AbstractContextManager[Product]:
        variant = self._variant(name)
        self.say(f"Starting {name}: {variant.summary}")
        return running_product(
            name,
            variant.summary,
            folder=self.folder / name.lower(),
            models_dir=variant.models_dir,
            stream=self._stream(),
            cores=self.cores,
            connections=self.size.connections,
            environment={"RULES_FILE": str(variant.rules_file.resolve())},
        )

    def _on_servers(self, name: str, *, workers: int) -> AbstractContextManager[Product]:
        variant = self._variant(LEAN)
        summary = f"{variant.summary}; on PostgreSQL (durable) and Valkey, workers: {workers}"
        self.say(f"Starting {name}: {summary}")
        several = {"WORKERS": str(workers)} if workers > 1 else {}
        return running_product(
            name,
            summary,
            folder=self.folder / name.lower(),
            models_dir=variant.models_dir,
            stream=self._stream(),
            cores=self.cores,
            connections=tuple({HALF_OF} & {*self.size.connections}),
            environment={"RULES_FILE": str(variant.rules_file.resolve()), **several},
            stores=Stores.SERVERS,
        )

    def _naive(self, product: Product, *, client_per_call: bool) -> AbstractContextManager[Target]:
        variant = self._variant(LEAN)
        name = "NAIVE_client_per_call" if client_per_call else "NAIVE_shared_client"
        self.say(f"Starting {name}")
        return running_naive(
            name,
            product,
            folder=self.folder / name.lower(),
            model_folder=variant.model_folder.resolve(),
            rules_file=variant.rules_file.resolve(),
            stream=self._stream(),
            cores=self.cores,
            client_per_call=client_per_call,
        )

    def _variant(self, name: str) -> Variant:
        return provide_variant(name, self.home)

    def _stream(self) -> Stream:
        """Return a stream of its own for one target, from the one file that all share."""
        path = self.home / f"stream-{self.size.customers}.txt"
        return load_stream(path, customers=self.size.customers, today=utc_now().date())

    def _floor(self, hop: Server, when: str) -> Iterator[Figure]:
        """Yield what stands beside every ratio: the echo touches no disk and calls nobody."""
        disk = self.home / "run"
        yield Figure(f"fdatasync_p50_{when}", fdatasync_ms(disk), "ms", note="append of 4 KB")
        yield Figure(f"hop_p50_{when}", hop_ms(HOST, hop.port), "ms", note="HTTP round trip on loopback")

    def _paced(self, product: Product, beside: list[Target]) -> Iterator[Figure]:
        tags = iter(self.rounds.next_tag, "")
        capacity = self.rounds.rate(product.name, HALF_OF)
        if Row.HALF in self.rows and capacity is not None:
            for target in (product, *beside):
                self.say(f"{target.name} at half of {capacity:,.0f}/s, open loop")
                yield from half_load(
                    target,
                    capacity=capacity,
                    tag=next(tags),
                    seconds=self.size.paced_seconds,
                    cores=self.cores,
                )
        capacity = self.rounds.rate(product.name, MULTIPLES_OF)
        if Row.OVERLOAD in self.rows and capacity is not None:
            self.say(f"{product.name} at multiples of {capacity:,.0f}/s, open loop")
            yield from overload(
                product, capacity=capacity, tags=tags, seconds=self.size.paced_seconds, cores=self.cores
            )

    def _identity(self, product: Product) -> Iterator[Figure]:
        capacity = self.rounds.rate(product.name, HALF_OF)
        if Row.IDENTITY in self.rows and capacity is not None:
            self.say(f"{product.name}: accounts, API keys, and scoring while passwords are guessed")
            yield from identity_figures(
                product, self.rounds, capacity=capacity, seconds=self.size.paced_seconds, cores=self.cores
            )

    def _profile(self, product: Product) -> Iterator[Figure]:
        self.say(f"Sampling {product.name} at {HALF_OF} connections")
        output = self.home / "profile.txt"
        with sampling(product.pids["ai_service"], output, seconds=self.size.seconds):
            self.rounds.load(product, connections=HALF_OF, seconds=self.size.seconds)
        yield from profile_figures(output.read_text(encoding="utf-8"))

    def _archive(self, product: Product) -> Iterator[Figure]:
        self.say(f"Reading the archive of {product.name}")
        saved, lost = product.lost_in_archive()
        note = "saved and not archived once, or archived and not saved"
        yield Figure(
            f"{product.name}_archive_differs", lost, "of saved", saved, Aim(Better.LOWER, 0), note=note
        )
