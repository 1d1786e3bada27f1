"""Whatever is sent to be scored is refused with a problem that repeats none of it, or kept exactly as it was sent.

Every case goes through every door, and the doors are compared answer by answer.
"""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from ai_service.main import SERVICE
from common.contracts.tokens import Scope
from common.contracts.transactions import Transaction
from common.errors import PlatformError
from common.strict_json import read_model
from tests.api.ai_service.conftest import API_KEYS, Ai, OpenAi
from tests.hostile_bodies import BASE, SECTIONS, TOO_LARGE, Case, cases
from tests.hostile_requests import BODIES, REQUESTS, Request

DOORS: dict[str, dict[str, Any]] = {"route": {"hot_door": False}, "hot": {"hot_door": True}}
PIECE = 12  # characters: shorter pieces are in our own words too
MAX_ANSWER_BYTES = 4096
TIMES_AND_IDS = frozenset({"request_id", "decision_id", "created_at", "timings_ms"})
PROBLEM_FIELDS = {
    "type", "title", "status", "detail", "errors", "request_id", "missing_scope", "required_roles",
}  # fmt: skip
HEADERS_THAT_DIFFER = frozenset({"x-request-id", "content-length"})
LEFT = re.compile(
    r"\b[rt]=\d+"
)  # how many requests are left, and for how long, depends on when this one came
OpenDoor = Callable[[str], AbstractAsyncContextManager[Ai]]


@dataclass
class Answered:
    """What came of one request."""

    name: str
    response: httpx.Response
    sent: Iterable[str] = ()
    saved: Any = None

    @property
    def comparable(self) -> tuple[Any, ...]:
        """Return everything that must be the same whichever door was taken."""
        body = self.response.json()
        headers = {
            name: LEFT.sub("", value)
            for name, value in self.response.headers.items()
            if name not in HEADERS_THAT_DIFFER
        }
        plain = {name: value for name, value in body.items() if name not in TIMES_AND_IDS}
        return self.name, self.response.status_code, headers, sorted(body), plain, self.saved

    def wrongs(self) -> Iterable[str]:
        """Yield what is wrong with a refusal, whatever it refuses."""
        response, body = self.response, self.response.json()
        if response.headers["Content-Type"] != "application/problem+json":
            yield "is no problem"
        if body.get("status") != response.status_code or not body["type"].startswith("urn:assay:problem:"):
            yield "has another status, or no type"
        if not body.get("title") or body.get("request_id") != response.headers["X-Request-ID"]:
            yield "has no title, or another request_id"
        if not set(body) <= PROBLEM_FIELDS:
            yield "has unknown fields"
        if len(response.content) > MAX_ANSWER_BYTES:
            yield "is long"
        yield from (
            f"repeats {piece!r}" for piece in repeated(self.sent, response.text + str(response.headers))
        )


def repeated(sent: Iterable[str], said: str) -> list[str]:
    """Return a piece of each of `sent` that is in `said`, as itself or as JSON writes it."""
    found = []
    for text in sent:
        starts = [
            *range(min(len(text) - PIECE + 1, 300)),
            *range(max(len(text) - 50, 0), len(text) - PIECE + 1),
        ]
        pieces = (text[start : start + PIECE] for start in starts)
        found += [piece for piece in pieces if piece in said or json.dumps(piece)[1:-1] in said][:1]
    return found


@pytest.fixture
def open_door(open_ai: OpenAi, tmp_path: Path) -> OpenDoor:
    """Start ai_service with one of its doors, on data of its own, logging all it can."""

    def opened(door: str) -> AbstractAsyncContextManager[Ai]:
        return open_ai(
            **DOORS[door],
            database_url=f"sqlite:///{tmp_path}/{door}.db",
            velocity_snapshot=tmp_path / f"{door}.npz",
            log_level="debug",
        )

    return opened


class TestBodies:
    @pytest.mark.parametrize("section", SECTIONS)
    async def test_are_refused_or_kept_exactly_and_by_every_door_alike(
        self, open_door: OpenDoor, section: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answered: dict[str, list[Answered]] = {}
        for door in DOORS:
            async with open_door(door) as ai:
                caller = await known_caller(ai)
                answered[door] = [await answer_to(ai, case, caller) for case in cases(section)]

        logged = capsys.readouterr().out
        for door in DOORS:
            assert [
                wrong for each in zip(cases(section), answered[door], strict=True) for wrong in wrongs(*each)
            ] == []
            assert differences(answered["route"], answered[door]) == []
        assert logged.count("request.answered") >= len(DOORS) * len(cases(section))
        assert [case.name for case in cases(section) if repeated(case.sent, logged)] == []

    @pytest.mark.parametrize("section", SECTIONS)
    def test_are_so_wherever_their_bytes_come_from(self, section: str) -> None:
        results = [(case, read(case)) for case in cases(section)]

        assert [case.name for case, result in results if case.kept and result != case.kept[1]] == []
        refused = [(case, result) for case, result in results if not (case.kept or case.parses)]
        assert [
            case.name
            for case, status in refused
            if case.statuses != TOO_LARGE and status not in case.statuses
        ] == []
        assert [case.name for case, status in refused if status not in {400, 422}] == []


class TestRequests:
    @pytest.mark.parametrize("body", BODIES)
    async def test_are_answered_by_every_door_alike(
        self, open_door: OpenDoor, body: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answered: dict[str, list[Answered]] = {}
        for door in DOORS:
            async with open_door(door) as ai:
                tokens = tokens_of(ai)
                answered[door] = [await send(ai, request, BODIES[body], tokens) for request in REQUESTS]

        logged = capsys.readouterr().out
        for door in DOORS:
            assert unexpected(answered[door], body) == []
            assert differences(answered["route"], answered[door]) == []
        assert "planted" not in logged
        assert not [name for name, token in tokens.items() if token in logged]


class TestQueries:
    @pytest.mark.parametrize(
        "query",
        [
            "limit=-1", "limit=0", "limit=1000000000", "limit=1e2", "limit=%D9%A5", "limit=5&limit=6", "limit=", "offset=9223372036854775808", "sort=record",
            "filter[$ne]=1", "outcome[]=approve", "outcome=anything", "since=2026-11-01", "since=1767225600.5&until=NaN", "since=Infinity", "customer_id=%00", "customer_id=",
            f"customer_id={'x' * 65}", "transaction_id=a%0D%0AX-Forged:%20planted-value-7391", "cursor=planted-value-7391", "cursor=" + "A" * 65, "institution_id=ins_live",
        ],
    )  # fmt: skip
    async def test_that_are_odd_are_refused(self, ai: Ai, query: str) -> None:
        response = await ai.get(f"/v1/transactions?{query}")

        answered = Answered(query, response, sent=[unquote(query.partition("=")[2])])
        assert response.status_code == 422
        assert list(answered.wrongs()) == []


class TestHotDoor:
    async def test_answers_itself_what_is_plainly_good(self, open_ai: OpenAi) -> None:
        async with open_ai(service=replace(SERVICE, routers=[without_score()]), hot_door=True) as ai:
            caller = await known_caller(ai)
            good = await send(
                ai,
                Request("good", 200),
                BODIES["good"],
                {"token": caller["Authorization"].removeprefix("Bearer ")},
            )
            by_key = await ai.client.post(
                "/v1/score",
                content=json.dumps({**BASE, "transaction_id": "by-key"}).encode(),
                headers={"Content-Type": "application/json", "X-API-Key": API_KEYS["api_key"]},
            )
            left = await send(
                ai,
                Request("left", 404),
                BODIES["no JSON"],
                {"token": caller["Authorization"].removeprefix("Bearer ")},
            )

        assert (good.response.status_code, by_key.status_code) == (200, 200)
        assert left.response.status_code == 404  # there is no route here that could say what is wrong


def without_score() -> APIRouter:
    """Return the routes of the service but for the one that the hot door stands in front of."""
    router = APIRouter()
    router.routes = [
        route
        for each in SERVICE.routers
        for route in each.routes
        if isinstance(route, APIRoute) and route.path != "/v1/score"
    ]
    return router


async def known_caller(ai: Ai) -> dict[str, str]:
    """Return the header of a caller whose token was verified before: the hot door knows no others."""
    caller = ai.auth()
    assert (await ai.client.get("/v1/transactions", headers=caller)).status_code == 200
    return caller


async def answer_to(ai: Ai, case: Case, caller: dict[str, str]) -> Answered:
    """Send the body of `case`, and look up what was saved."""
    headers = {"Content-Type": "application/json", **caller}
    response = await ai.client.post("/v1/score", content=case.body, headers=headers)
    answered = Answered(case.name, response, sent=case.sent)
    if response.status_code == 200:
        found = await ai.client.get(
            "/v1/transactions", params={"transaction_id": case.transaction_id}, headers=caller
        )
        (item,) = found.json()["items"]
        assert response.json()["transaction_id"] == case.transaction_id
        decision_id = response.json()["decision_id"]
        decision = await ai.client.get(f"/v1/decisions/{decision_id}", headers=caller)
        assert item["decision"]["decision_id"] == decision.json()["decision_id"]
        answered.saved = item["transaction"]
    return answered


def wrongs(case: Case, answered: Answered) -> Iterable[str]:
    """Yield what is wrong with the answer to `case`."""
    status = answered.response.status_code
    if case.kept is None:
        if status not in case.statuses:
            yield f"{case.name}: {status}"
        if status != 200:
            yield from (f"{case.name}: {wrong}" for wrong in answered.wrongs())
    elif status != 200:
        yield f"{case.name}: {status}"
    elif (found := at(case.kept[0], answered.saved)) != case.kept[1] or type(found) is not type(case.kept[1]):
        yield f"{case.name}: kept as {found!r}"


def read(case: Case) -> Any:  # noqa: ANN401 - any JSON value
    """Return what `read_model` keeps, or the status of its refusal."""
    try:
        transaction = read_model(case.body, Transaction)
    except PlatformError as error:
        return error.status_code
    return at(case.kept[0], transaction.canonical) if case.kept else 200


def at(place: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    for name in place.split("."):
        value = value[name]
    return value


async def send(ai: Ai, request: Request, body: bytes, tokens: dict[str, str]) -> Answered:
    """Send `body` in `request`."""
    headers = list(request.headers)
    if request.authorization is not None:
        headers.append(("Authorization", request.authorization))
    filled_in = [(name.encode(), filled(value, tokens)) for name, value in headers]
    path = filled(request.path, tokens).decode()
    response = await ai.client.request(request.method, path, content=body, headers=filled_in)
    return Answered(request.name, response, sent=["planted-value-7391", "planted" * 3, tokens["token"]])


def tokens_of(ai: Ai) -> dict[str, str]:
    """Make the tokens that requests name."""
    token = ai.users.fake.user_token()
    return {
        "token": token,
        "cut": token[:-4],
        "unsigned": token.rpartition(".")[0] + ".",
        "reader": ai.users.fake.user_token(scopes=[Scope.DECISIONS_READ]),
        "service": ai.users.fake.service_token(Scope.SCORE_WRITE),
        **API_KEYS,
        "cut_key": API_KEYS["api_key"][:-1],
    }


def filled(value: str | bytes, tokens: dict[str, str]) -> bytes:
    made = value if isinstance(value, bytes) else value.encode()
    for name, token in tokens.items():
        made = made.replace(f"{{{name}}}".encode(), token.encode())
    return made


def unexpected(answered: Iterable[Answered], body: str) -> list[str]:
    """Return what is not as the requests say it is with a good body, or no good problem."""
    found = []
    for request, each in zip(REQUESTS, answered, strict=True):
        status = each.response.status_code
        is_judged_alone = request.status in {401, 403, 404, 405, 415}
        allowed = {request.status} if body == "good" or is_judged_alone else {400, 422}
        if status not in allowed:
            found.append(f"{request.name}: {status}")
        if status != 200:
            found += [f"{request.name}: {wrong}" for wrong in each.wrongs()]
    return found


def differences(some: Iterable[Answered], others: Iterable[Answered]) -> list[Any]:
    """Return what was answered in two ways."""
    pairs = zip(some, others, strict=True)
    return [(one.comparable, other.comparable) for one, other in pairs if one.comparable != other.comparable]
