"""Every attack of the table on every protected route of every service: refused in the one way, and nothing tells why."""

import random
from collections.abc import Sequence

import httpx
import pytest

from tests.openapi import APPS
from tests.security.attacks import REQUESTS, TOKENS, RequestAttack
from tests.security.conftest import OpenWorld
from tests.security.forging import Attack, Attempt, Forge, segment
from tests.security.policy import load_policy
from tests.security.requests import parts
from tests.security.routes import Endpoint
from tests.security.tally import Tally
from tests.security.trap import Trap, open_trap
from tests.security.worlds import World

SERVICES = sorted(APPS)
ATTACKS: Sequence[Attack | RequestAttack] = [*TOKENS, *REQUESTS]
NUMBERS = {*range(1, 73), *range(82, 87)}
KEY_FETCHES = 2  # one for all unknown ids, and one that was due anyway
RANDOM_TOKENS = 10_000
CHEAP = {"external_apis_services": "GET /v1/internal/rates"}


async def attack(world: World, endpoint: Endpoint, attempt: Attempt) -> httpx.Response:
    """Send a good request with what an attack adds to it."""
    asked = parts(str(endpoint))
    asked["params"] = {**asked.get("params", {}), **(attempt.query or {})}
    headers = [*attempt.headers]
    return await world.client.request(endpoint.method, world.path(endpoint), headers=headers, **asked)


def flaws(response: httpx.Response, attempt: Attempt) -> list[str]:
    """Say in which ways a refusal is not as it must be."""
    if response.status_code != 401:
        return [f"{response.status_code} {response.text[:120]}"]
    body, found = response.json(), []
    if response.headers["Content-Type"] != "application/problem+json":
        found.append("is no problem+json")
    if response.headers.get("WWW-Authenticate") != "Bearer":
        found.append("does not name the scheme")
    if body.keys() != {"type", "title", "status", "request_id"} or not body["type"].endswith(
        ":unauthenticated"
    ):
        found.append(f"says why: {response.text[:120]}")
    told = response.text + str(response.headers)
    if any(piece in told for piece in attempt.pieces):
        found.append("holds a part of the token")
    return found


async def opens(world: World, endpoint: Endpoint) -> bool:
    """Say whether the token that the attacks are made from is known here."""
    attempt = Attempt(((b"authorization", f"Bearer {world.good}".encode()),), world.good)
    return (await attack(world, endpoint, attempt)).status_code != 401


def key_fetches(world: World) -> int:
    """Return how often the service has asked for keys."""
    return 0 if world.users is None else world.users.key_fetches


class TestTheTable:
    def test_holds_every_case_of_the_list(self) -> None:
        assert {attack.number for attack in ATTACKS} == NUMBERS

    def test_names_each_attack_once(self) -> None:
        names = [str(attack) for attack in ATTACKS]

        assert len(names) == len(set(names)) >= 450


@pytest.mark.parametrize("service", SERVICES)
class TestEveryAttack:
    async def test_is_refused_on_every_protected_route(
        self, service: str, open_world: OpenWorld, tally: Tally, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wrong, tokens = [], []
        async with open_world(service, log_level="info") as world, open_trap() as trap:
            forge = Forge(world.good, world.key, trap.url)
            routes = sorted(load_policy()[service].protected)
            assert all([await opens(world, endpoint) for endpoint in routes])
            attempts = [(each, each.attempt(forge)) for each in ATTACKS]
            fetched = key_fetches(world)
            for endpoint in routes:
                for each, attempt in attempts:
                    found = flaws(await attack(world, endpoint, attempt), attempt)
                    wrong += [f"{endpoint}: {each}: {flaw}" for flaw in found]
            wrong += traces(world, trap, fetched=fetched)
            assert all([await opens(world, endpoint) for endpoint in routes])
            metrics = (await world.client.get("/metrics")).text
            tokens = [piece for _, attempt in attempts for piece in attempt.pieces]

        written = capsys.readouterr()
        wrong += [f"{piece} is logged or counted" for piece in set(tokens) if piece in written.out + metrics]
        assert '"status":401' in written.out
        tally.add("token attacks: attack and protected route", len(routes) * len(attempts), wrong)
        assert wrong == []


def traces(world: World, trap: Trap, *, fetched: int) -> list[str]:
    """Say what the attacks made the service ask for."""
    found = [f"the attacker's server was asked for {path}" for path in trap.asked]
    more = key_fetches(world) - fetched
    return [*found, f"{more} fetches of keys"] if more > KEY_FETCHES else found


@pytest.mark.parametrize(("service", "line"), CHEAP.items())
class TestRandomTokens:
    async def test_are_refused_and_break_nothing(
        self, service: str, line: str, open_world: OpenWorld, tally: Tally
    ) -> None:
        endpoint, wrong = Endpoint(*line.split(" ")), []
        async with open_world(service) as world:
            forge = Forge(world.good, world.key)
            assert await opens(world, endpoint)
            chance = random.Random(20261121)  # noqa: S311 - the same tokens in every run
            for _ in range(RANDOM_TOKENS):
                token = random_token(forge, chance)
                attempt = Attempt(((b"authorization", b"Bearer " + token),), token.decode("latin-1"))
                found = flaws(await attack(world, endpoint, attempt), attempt)
                wrong += [f"{token!r}: {flaw}" for flaw in found]
            assert await opens(world, endpoint)

        tally.add("token attacks: random and mutated tokens", RANDOM_TOKENS, wrong)
        assert wrong == []


def random_token(forge: Forge, chance: random.Random) -> bytes:
    """Return random bytes, the parts of a token with random content, or a good token that was changed somewhere."""
    kind = chance.random()
    if kind < 0.2:
        return chance.randbytes(chance.randrange(200))
    if kind < 0.4:
        return ".".join(segment(chance.randbytes(chance.randrange(1, 120))) for _ in range(3)).encode()
    if kind < 0.5:
        return (
            forge.message(payload=chance.randbytes(200)).encode() + b"." + forge.good.split(".")[2].encode()
        )
    return mutated(forge.good.encode(), chance)


def mutated(good: bytes, chance: random.Random) -> bytes:
    """Change, drop, insert, swap or cut something; never returns the same bytes."""
    while True:
        token, place = bytearray(good), chance.randrange(len(good))
        for change in chance.sample(range(6), chance.randrange(1, 4)):
            place = min(chance.randrange(len(good)), len(token) - 1)
            if change == 0:
                token[place] = chance.randrange(33, 256)
            elif change == 1:
                del token[place]
            elif change == 2:
                token.insert(place, chance.randrange(33, 127))
            elif change == 3:
                token[place], token[-1] = token[-1], token[place]
            elif change == 4:
                del token[place : place + chance.randrange(2, 40)]
            else:
                token[place:place] = token[: chance.randrange(1, 60)]
            if not token:
                break
        if bytes(token) != good:
            return bytes(token)
