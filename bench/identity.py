"""What identity costs: registering, logging in, scoring with an API key, and scoring while passwords are guessed."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import httpx

from bench.errors import BenchError
from bench.figures import Aim, Better, Figure, spread
from bench.guessing import A_SECOND, TIMEOUT_S
from bench.machine import Cores, pin
from bench.open_loop import random_times
from bench.paced import CONNECTIONS, Offered, offer_payments
from bench.product import Product
from bench.rounds import Rounds
from local_stack.accounts import access_token, register_sandbox
from local_stack.child import PROJECT

REGISTRATIONS = 20
LOGINS = 40
CONNECTIONS_OF_RATIO = 32
CONTENDED = 1.25
ROUNDS = 3


def identity_figures(
    product: Product, rounds: Rounds, *, capacity: float, seconds: float, cores: Cores
) -> Iterator[Figure]:
    """Yield the figures; `capacity` is what the product did with tokens (requests a second)."""
    yield from _accounts(product)
    yield from _api_key(product, rounds, seconds=seconds)
    yield from _guessing(product, rounds, rate=capacity / 2, seconds=seconds, cores=cores)


def _accounts(product: Product) -> Iterator[Figure]:
    users = product.stack.url("user_service")
    registered = _timed(lambda: register_sandbox(users, name="Bench registrations"), times=REGISTRATIONS)
    yield Figure("register_p50", registered, "ms", aim=Aim(Better.LOWER, 200, 150))
    logged_in = _timed(lambda: access_token(users, product.login), times=LOGINS)
    yield Figure(
        "login_p50", logged_in, "ms", aim=Aim(Better.LOWER, 100, 50), note="with Argon2id, one after another"
    )


def _timed(call: Callable[[], object], *, times: int) -> float:
    """Return the median of `times` calls in ms."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def _api_key(product: Product, rounds: Rounds, *, seconds: float) -> Iterator[Figure]:
    with_key = replace(product, name=f"{product.name}_api_key", api_key=new_key(product))
    ratios = []
    for _ in range(ROUNDS):
        by_token, by_key = (
            rounds.measure(target, connections=CONNECTIONS_OF_RATIO, seconds=seconds / ROUNDS).run.rate
            for target in (product, with_key)
        )
        ratios.append(by_key / by_token)
    name = f"{with_key.name}_c{CONNECTIONS_OF_RATIO}_vs_token"
    yield spread(name, ratios, "x", baseline=by_token, aim=Aim(Better.HIGHER, 0.9, 1.0))


def new_key(product: Product) -> str:
    """Return a new API key that ai_service knows; raises `BenchError`."""
    users = product.stack.url("user_service")
    headers = {"Authorization": f"Bearer {access_token(users, product.login)}"}
    body = {"name": "bench", "scopes": ["score:write"]}
    with httpx.Client(base_url=users, timeout=TIMEOUT_S, trust_env=False) as client:
        made = client.post("/v1/api-keys", json=body, headers=headers)
    if made.status_code != httpx.codes.CREATED:
        raise BenchError(f"no API key was made: {made.status_code} {made.text}")
    key = str(made.json()["key"])
    _await_known(product, key)
    return key


def _await_known(product: Product, key: str) -> None:
    """Wait until ai_service has heard of the key; raises `BenchError`."""
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=product.stack.url("ai_service"), timeout=TIMEOUT_S, trust_env=False) as client:
        while (
            client.get("/v1/transactions", headers={"X-API-Key": key}).status_code == httpx.codes.UNAUTHORIZED
        ):
            if time.monotonic() > deadline:
                raise BenchError("ai_service does not hear of a new API key")
            time.sleep(0.5)


def _guessing(
    product: Product, rounds: Rounds, *, rate: float, seconds: float, cores: Cores
) -> Iterator[Figure]:
    def offered() -> Offered:
        due = random_times(rate, seconds)
        return offer_payments(
            product,
            tag=rounds.next_tag(),
            due=due,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            cores=cores,
        )

    answers: Counter[str] = Counter()
    calm, guessed = [], []
    for _ in range(ROUNDS):
        calm.append(offered().outcome.latency_ms().p99)
        with _wrong_logins(product.stack.url("user_service"), answers, core=cores.others):
            guessed.append(offered().outcome.latency_ms().p99)
    said = ", ".join(f"{count} x {answer}" for answer, count in sorted(answers.items()))
    yield spread(
        f"{product.name}_p99_while_guessing",
        [while_guessing / without for while_guessing, without in zip(guessed, calm, strict=True)],
        "x",
        baseline=median(calm),
        aim=Aim(Better.LOWER, CONTENDED),
        note=f"{rate:,.0f}/s scored; {said} of wrong logins, {A_SECOND} a second; p99 {median(guessed):.1f} ms",
    )


@contextmanager
def _wrong_logins(url: str, answers: Counter[str], *, core: int) -> Iterator[None]:
    """Guess passwords until the block ends; then count the answers."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    command = [sys.executable, "-m", "bench.guessing", host, port]
    with subprocess.Popen(
        command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        pin(process.pid, core)
        try:
            yield
        finally:
            said, _ = process.communicate(timeout=2 * TIMEOUT_S)
    if process.returncode:
        raise BenchError("The guesses ended before they were told to.")
    answers.update(json.loads(said))
