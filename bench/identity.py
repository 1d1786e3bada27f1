"""What identity costs: registering, logging in, scoring with an API key, and scoring while passwords are guessed."""

import asyncio
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from threading import Thread

import httpx

from bench.errors import BenchError
from bench.figures import Aim, Better, Figure, spread
from bench.machine import Cores
from bench.open_loop import random_times
from bench.paced import CONNECTIONS, Offered, offer_product
from bench.product import Product
from bench.rounds import Rounds
from local_stack.accounts import access_token, register_sandbox

REGISTRATIONS = 20
LOGINS = 40
WRONG_LOGINS_A_SECOND = 50
SOURCES = 250  # loopback addresses: no single one is locked, so that every wrong login costs a password hash
CONNECTIONS_OF_RATIO = 32
CONTENDED = 1.25
ROUNDS = 3
TIMEOUT_S = 10.0


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
    with_key = replace(product, name=f"{product.name}_api_key", api_key=_new_key(product))
    ratios = []
    for _ in range(ROUNDS):
        by_token, by_key = (
            rounds.measure(target, connections=CONNECTIONS_OF_RATIO, seconds=seconds / ROUNDS).run.rate
            for target in (product, with_key)
        )
        ratios.append(by_key / by_token)
    name = f"{with_key.name}_c{CONNECTIONS_OF_RATIO}_vs_token"
    yield spread(name, ratios, "x", baseline=by_token, aim=Aim(Better.HIGHER, 0.9, 1.0))


def _new_key(product: Product) -> str:
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
        return offer_product(
            product,
            tag=rounds.next_tag(),
            due=due,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            cores=cores,
        )

    calm = offered().outcome.latency_ms().p99
    with _wrong_logins(product.stack.url("user_service")) as tried:
        guessed = offered().outcome.latency_ms().p99
    yield Figure(
        f"{product.name}_p99_while_guessing",
        guessed / calm,
        "x",
        calm,
        Aim(Better.LOWER, CONTENDED),
        note=f"{rate:,.0f}/s scored; {tried()} wrong logins, {WRONG_LOGINS_A_SECOND} a second; p99 {guessed:.1f} ms",
    )


@contextmanager
def _wrong_logins(url: str) -> Iterator[Callable[[], str]]:
    """Guess passwords of many accounts from many addresses until the block ends; yields what says how it went."""
    statuses: dict[int, int] = {}
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = Thread(target=lambda: loop.run_until_complete(_guess(url, statuses, stop)), daemon=True)
    thread.start()
    try:
        yield lambda: ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S * 2)
        loop.close()


async def _guess(url: str, statuses: dict[int, int], stop: asyncio.Event) -> None:
    context = ssl.create_default_context()  # one for all: making it takes longer than a guess
    clients = [
        httpx.AsyncClient(
            base_url=url,
            timeout=TIMEOUT_S,
            transport=httpx.AsyncHTTPTransport(verify=context, local_address=f"127.0.1.{number + 1}"),
        )
        for number in range(SOURCES)
    ]
    running: set[asyncio.Task[None]] = set()
    number = 0
    while not stop.is_set():
        task = asyncio.create_task(_try(clients[number % SOURCES], statuses))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        await asyncio.sleep(1 / WRONG_LOGINS_A_SECOND)
    await asyncio.gather(*running, return_exceptions=True)
    for client in clients:
        await client.aclose()


async def _try(client: httpx.AsyncClient, statuses: dict[int, int]) -> None:
    body = {"email": f"{secrets.token_hex(6)}@guess.example", "password": "not-the-password-1"}
    try:
        status = (await client.post("/v1/auth/login", json=body)).status_code
    except httpx.HTTPError:
        status = 0
    statuses[status] = statuses.get(status, 0) + 1
