"""Open-loop runs against the product: latency at half of its capacity, and what happens beyond it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.figures import Aim, Better, Figure
from bench.load_outcome import NAMES, LoadOutcome
from bench.machine import Cores
from bench.open_loop import offer, random_times
from bench.processes import HOST
from bench.product import Product
from bench.targets import Target

CONNECTIONS = 256
OVERLOAD_CONNECTIONS = 512
STEPS = (1, 2, 3, 5)
MODEST_RATE = 100.0
RECOVERY_LOAD = 0.5
RECOVERED_WITHIN_S = 5.0
BACK_AT_MS = 20.0


@dataclass(frozen=True)
class Offered:
    """One open-loop run and what is known of it."""

    tag: str
    rate: float
    seconds: float
    outcome: LoadOutcome
    lost: int


def offer_payments(
    target: Target,
    *,
    tag: str,
    due: Sequence[float],
    rate: float,
    seconds: float,
    connections: int,
    cores: Cores,
) -> Offered:
    """Send a target's next payments when they are due; each acknowledged id is looked for in the product's database."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.others})
    try:
        requests = target.stream.requests(tag, target.head(), count=len(due))
        outcome = offer(HOST, _port(target.url), requests, due, connections=connections)
    finally:
        os.sched_setaffinity(0, before)
    target.settle()
    lost = target.missing(tag, outcome.acknowledged) if isinstance(target, Product) else 0
    return Offered(tag, rate, seconds, outcome, lost)


def _port(url: str) -> int:
    return int(url.removeprefix(f"http://{HOST}:").partition("/")[0])


def half_load(target: Target, *, capacity: float, tag: str, seconds: float, cores: Cores) -> Iterator[Figure]:
    """Yield the latencies at half of `capacity` (requests a second): the product's, also for what stands beside it."""
    rate = capacity / 2
    found = offer_payments(
        target,
        tag=tag,
        due=random_times(rate, seconds),
        rate=rate,
        seconds=seconds,
        connections=CONNECTIONS,
        cores=cores,
    )
    latency, late = found.outcome.latency_ms(), found.outcome.lateness_ms()
    name, aim = f"{target.name}_half_load", Aim(Better.LOWER, 20, 10) if isinstance(target, Product) else None
    note = f"{rate:,.0f}/s offered, {_counts(found.outcome)}; the client was late by {late.p50:.2f} ms (p99 {late.p99:.2f})"
    yield Figure(f"{name}_p50", latency.p50, "ms", capacity, note=note)
    yield Figure(f"{name}_p99", latency.p99, "ms", capacity, aim)
    yield Figure(f"{name}_p999", latency.p999, "ms", capacity)
    yield Figure(f"{name}_client_late_p99", late.p99, "ms", latency.p99)
    if isinstance(target, Product):
        acknowledged = len(found.outcome.acknowledged)
        yield Figure(f"{name}_lost", found.lost, "of acknowledged", acknowledged, Aim(Better.LOWER, 0))


def cached(product: Product, *, tag: str, seconds: float, cores: Cores) -> Iterator[Figure]:
    """Yield the latencies of payments whose institution, key and places are remembered, at a rate that fills no queue."""
    found = offer_payments(
        product,
        tag=tag,
        due=random_times(MODEST_RATE, seconds),
        rate=MODEST_RATE,
        seconds=seconds,
        connections=CONNECTIONS,
        cores=cores,
    )
    latency, name = found.outcome.latency_ms(), f"{product.name}_cached"
    note = f"{MODEST_RATE:,.0f}/s offered, {_counts(found.outcome)}"
    yield Figure(f"{name}_p50", latency.p50, "ms", note=note)
    yield Figure(f"{name}_p99", latency.p99, "ms", aim=Aim(Better.LOWER, 50))
    acknowledged = len(found.outcome.acknowledged)
    yield Figure(f"{name}_lost", found.lost, "of acknowledged", acknowledged, Aim(Better.LOWER, 0))


def overload(
    product: Product, *, capacity: float, tags: Iterator[str], seconds: float, cores: Cores
) -> Iterator[Figure]:
    """Yield goodput and refusals at multiples of `capacity`, and how soon latency is back after the last one."""

    def offered(step: float, due: Sequence[float]) -> Offered:
        return offer_payments(
            product,
            tag=next(tags),
            due=due,
            rate=capacity * step,
            seconds=seconds,
            connections=OVERLOAD_CONNECTIONS,
            cores=cores,
        )

    calm = offered(RECOVERY_LOAD, random_times(capacity * RECOVERY_LOAD, seconds))
    first: Offered | None = None
    for step in STEPS:
        due = random_times(capacity * step, seconds)
        if step == STEPS[-1]:
            due += random_times(capacity * RECOVERY_LOAD, 2 * RECOVERED_WITHIN_S, start=seconds)
        found = offered(step, due)
        first = first or found
        yield from overload_figures(product.name, step, found, first=first, capacity=capacity)
    yield _recovery(product.name, found.outcome, start=seconds, calm_p99=calm.outcome.latency_ms().p99)


def overload_figures(
    name: str, step: int, found: Offered, *, first: Offered, capacity: float
) -> Iterator[Figure]:
    """Yield what test_plan.md L2 asks of one step."""
    outcome = found.outcome.between(0, found.seconds)
    prefix = f"{name}_overload_{step}x"
    accepted, refused = outcome.latency_ms(), outcome.latency_ms(low=503, high=504)
    normal = first.outcome.between(0, first.seconds).latency_ms().p99
    late = outcome.lateness_ms()
    note = f"{found.rate:,.0f}/s offered, {_counts(outcome)}; the client was late by {late.p50:.2f} ms (p99 {late.p99:.2f})"
    yield Figure(
        f"{prefix}_goodput",
        outcome.goodput(found.seconds) / capacity,
        "x capacity",
        capacity,
        Aim(Better.HIGHER, 0.9),
        note=note,
    )
    yield Figure(
        f"{prefix}_accepted_p99", accepted.p99, "ms", normal, Aim(Better.LOWER, min(250, 2 * normal))
    )
    if refused.count:
        yield Figure(f"{prefix}_503_p99", refused.p99, "ms", aim=Aim(Better.LOWER, 50))
        yield Figure(
            f"{prefix}_503_bare", outcome.impolite(), "of 503", refused.count, Aim(Better.LOWER, 0),
            note="without Retry-After or problem+json",
        )  # fmt: skip
    yield Figure(f"{prefix}_unanswered", outcome.unanswered, "in 1 s", aim=Aim(Better.LOWER, 0))
    yield Figure(
        f"{prefix}_lost", found.lost, "of acknowledged", len(found.outcome.acknowledged), Aim(Better.LOWER, 0)
    )


def recovered_after_s(outcome: LoadOutcome, *, start: float, p99_ms: float) -> float:
    """Return after how many seconds from `start` on every later second's p99 is at most `p99_ms`."""
    last_bad = 0
    second = 0
    while (part := outcome.between(start + second, start + second + 1)).samples:
        if part.unanswered or not part.latency_ms().p99 <= p99_ms:
            last_bad = second + 1
        second += 1
    return float(last_bad)


def _recovery(name: str, outcome: LoadOutcome, *, start: float, calm_p99: float) -> Figure:
    p99_ms = max(BACK_AT_MS, 2 * calm_p99)
    return Figure(
        f"{name}_overload_recovery",
        recovered_after_s(outcome, start=start, p99_ms=p99_ms),
        "s",
        calm_p99,
        Aim(Better.LOWER, RECOVERED_WITHIN_S),
        note=f"until p99 stays below {p99_ms:.1f} ms at half load; before the overload it was {calm_p99:.1f} ms",
    )


def _counts(outcome: LoadOutcome) -> str:
    said = [f"{count:,} {NAMES.get(status, status)}" for status, count in sorted(outcome.statuses.items())]
    return ", ".join(said)
