"""Finds out what a running stack can do and offers it more, with this process on one core and ai_service on another."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count

from bench.figures import Aim, Better, Figure
from bench.http_wire import Connection, WireAnswer, WireRequest, post, post_head
from bench.load_outcome import LoadOutcome, Sample
from bench.machine import choose_cores, cpu_seconds, pin
from bench.open_loop import even_times, offer_in_loop
from common.clock import utc_now
from local_stack.stack import Stack
from tests.factories import transaction_body
from tests.models import FINE

HOST = "127.0.0.1"
CONNECTIONS = 48  # fewer than are let in at the least: nobody is refused while capacity is measured
OPEN_LOOP_CONNECTIONS = 512
PATIENCE_S = 10.0  # longer than anything takes here, so that not one request goes without an answer
SLOW_MS = 100.0
OWN_SHARE = 0.6
CALM_S = 4.0


@contextmanager
def own_core(stack: Stack) -> Iterator[None]:
    """Leave one core to ai_service; this process and the other services share another one."""
    cores = choose_cores()
    before = os.sched_getaffinity(0)
    for name, child in stack.children.items():
        pin(child.pid, cores.server if name == "ai_service" else cores.others)
    os.sched_setaffinity(0, {cores.others})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Step:
    """What became of one step: so many times the capacity, for so many seconds."""

    factor: float
    seconds: float
    outcome: LoadOutcome
    cpu_s: float

    @property
    def had_its_core(self) -> bool:
        """Whether ai_service got most of its core, so that goodput says something about it."""
        return self.cpu_s > OWN_SHARE * self.seconds

    def figures(self, capacity: float) -> list[Figure]:
        """Return goodput and latencies as bench prints them."""
        name = f"overload_{self.factor:g}x"
        accepted, refused = self.outcome.latency_ms(), self.outcome.latency_ms(low=503, high=504)
        return [
            Figure(
                f"{name}_goodput",
                self.outcome.goodput(self.seconds) / capacity,
                "of capacity",
                baseline=capacity,
                aim=Aim(Better.HIGHER, 0.9) if self.factor >= 1 else None,
            ),
            Figure(f"{name}_accepted_p99", accepted.p99, "ms", aim=Aim(Better.LOWER, 250)),
            *(
                [Figure(f"{name}_503_p99", refused.p99, "ms", aim=Aim(Better.LOWER, 50))]
                * bool(refused.count)
            ),
        ]

    def recovery_s(self) -> float:
        """Return when the last request was due that was refused or slow."""
        troubled = [
            each.due for each in self.outcome.samples if each.status != 200 or each.latency_ms > SLOW_MS
        ]
        return max(troubled, default=0.0)


@dataclass
class Generator:
    """Sends payments of one institution, each under an id of its own."""

    stack: Stack
    token: str
    acknowledged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._port = int(self.stack.url("ai_service").rpartition(":")[2])
        self._requests = self._payments()

    async def capacity(self, seconds: float) -> float:
        """Return how many payments a second are scored for clients that each wait for their answer."""
        loop = asyncio.get_running_loop()
        clients = _WaitingClients(self._requests, ends=time.monotonic() + seconds)
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(clients), HOST, self._port)
            clients.send_on(connection)
        async with asyncio.timeout(seconds + PATIENCE_S):
            await clients.finished.wait()
        self.acknowledged += clients.acknowledged
        return len(clients.acknowledged) / seconds

    async def offer(self, factor: float, capacity: float, *, seconds: float) -> Step:
        """Offer so many times the capacity, whatever becomes of it."""
        due = even_times(factor * capacity, seconds)
        pid = self.stack.children["ai_service"].pid
        before = cpu_seconds(pid)
        outcome = await offer_in_loop(
            HOST, self._port, self._requests, due, connections=OPEN_LOOP_CONNECTIONS, timeout_s=PATIENCE_S
        )
        self.acknowledged += outcome.acknowledged
        return Step(factor, seconds, outcome, cpu_seconds(pid) - before)

    def saved(self) -> set[str]:
        """Return the ids of the payments that are in the database."""
        path = self.stack.files.database("ai_service")
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return {found for (found,) in database.execute("SELECT transaction_id FROM decisions")}

    def _payments(self) -> Iterator[WireRequest]:
        head = post_head("/v1/score", host=HOST, headers={"Authorization": f"Bearer {self.token}"})
        body = json.dumps(
            transaction_body(
                transaction_id="tx-@@",
                customer_id="customer-@@",
                device_id="device-@@",
                event_time=utc_now().isoformat(),
                amount=FINE,
                payment_method=None,
                ip_address=None,
            )
        )
        for number in count():
            yield WireRequest(f"tx-{number}", post(head, body.replace("@@", str(number)).encode()))


class _WaitingClients:
    """A closed loop: each connection sends its next payment when the last one is answered."""

    def __init__(self, requests: Iterator[WireRequest], *, ends: float) -> None:
        self.acknowledged: list[str] = []
        self.finished = asyncio.Event()
        self._requests = requests
        self._ends = ends
        self._ids: dict[Connection, str] = {}

    def send_on(self, connection: Connection) -> None:
        request = next(self._requests)
        self._ids[connection] = request.id
        connection.send(0, request.wire)

    def answered(self, connection: Connection, answer: WireAnswer) -> None:
        if answer.status == 200:
            self.acknowledged.append(self._ids[connection])
        if time.monotonic() < self._ends:
            self.send_on(connection)
        else:
            connection.close()
            self.lost(connection)

    def lost(self, connection: Connection) -> None:
        self._ids.pop(connection, None)
        if not self._ids:
            self.finished.set()


def impolite(samples: tuple[Sample, ...]) -> list[Sample]:
    """Return what was neither scored nor refused in the one way there is."""
    return [
        each for each in samples if each.status != 200 and not (each.status == 503 and each.is_polite_refusal)
    ]
