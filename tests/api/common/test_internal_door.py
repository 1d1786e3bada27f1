"""Batches of our own services by both doors: the one in front of FastAPI, and the route behind it."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from alert_service.alerts.endpoints import CALLS as ALERT_CALLS
from alert_service.alerts.endpoints import internal as internal_alerts
from alert_service.alerts.endpoints import router as shown_alerts
from alert_service.main import SERVICE as ALERT_SERVICE
from alert_service.settings import AlertSettings
from common.app import Service, create_app
from common.contracts.audit_records import AuditBatch, RecordKind
from common.contracts.tokens import Scope
from common.internal_door import InternalCall
from log_service.archive.endpoints import CALLS as RECORD_CALLS
from log_service.archive.endpoints import internal as internal_records
from log_service.archive.endpoints import public as shown_records
from log_service.main import SERVICE as LOG_SERVICE
from tests.alert_factories import alert_body
from tests.api.log_service.harness import NEVER_S, Bucket, log_settings, make_record, s3_server
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.waiting import eventually

HEADERS_OF_THEIR_OWN = {"x-request-id", "ratelimit"}  # the second says for how many seconds more
Open = Callable[[Service[Any], str], AbstractAsyncContextManager[httpx.AsyncClient]]


@dataclass(frozen=True)
class Kind:
    """One internal route: what is sent to it, and how its service is started anew."""

    open: Open
    service: Service[Any]
    without_route: Service[Any]
    path: str
    seen_at: str
    scope: Scope
    good: bytes
    others: Mapping[str, bytes]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        yield server


@pytest.fixture
def records(tmp_path: Path, users: RunningUserService, bucket: Bucket) -> Kind:
    @asynccontextmanager
    async def opened(service: Service[Any], name: str) -> AsyncIterator[httpx.AsyncClient]:
        (tmp_path / name).mkdir()
        settings = log_settings(
            tmp_path / name, users, bucket, archive_interval_s=NEVER_S, s3_bucket=f"{name}-records"
        )
        async with open_app(create_app(service, settings)) as client:
            await is_ready(client)
            yield client

    def batch(*of: Any) -> bytes:  # noqa: ANN401 - records
        return AuditBatch(records=of).model_dump_json().encode()

    return Kind(
        opened,
        LOG_SERVICE,
        replace(LOG_SERVICE, routers=[shown_records]),
        "/v1/internal/audit-records",
        "/v1/audit/days/2026-11-02",
        Scope.AUDIT_WRITE,
        batch(make_record(1), make_record(2)),
        {
            "again": batch(make_record(1), make_record(3)),
            "another record of the same id": batch(make_record(1, note="planted")),
            "somebody else's": batch(make_record(1, kind=RecordKind.IDENTITY)),
            "a digest that is wrong": batch(make_record(4, sha256="0" * 64)),
        },
    )


@pytest.fixture
def alerts(tmp_path: Path, users: RunningUserService) -> Kind:
    @asynccontextmanager
    async def opened(service: Service[Any], name: str) -> AsyncIterator[httpx.AsyncClient]:
        settings = AlertSettings.model_validate(
            {
                "environment": "test",
                "database_url": f"sqlite:///{tmp_path}/{name}.db",
                "user_service_url": users.url,
                "smtp_port": 1,
                "smtp_security": "none",
            }
        )
        async with open_app(create_app(service, settings)) as client:
            await is_ready(client)
            yield client

    def batch(*of: dict[str, Any]) -> bytes:
        return json.dumps({"alerts": of}).encode()

    return Kind(
        opened,
        ALERT_SERVICE,
        replace(ALERT_SERVICE, routers=[shown_alerts]),
        "/v1/internal/alerts",
        "/v1/alerts",
        Scope.ALERTS_WRITE,
        batch(alert_body(alert_id="alr_1"), alert_body(alert_id="alr_2")),
        {"again": batch(alert_body(alert_id="alr_1")), "more than it has": batch(alert_body(extra=1))},
    )


@pytest.fixture(params=["records", "alerts"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.getfixturevalue(request.param)
    return found


async def is_ready(client: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        return (await client.get("/ready")).status_code == 200

    await eventually(ready)


async def remember(kind: Kind, client: httpx.AsyncClient, token: str) -> None:
    """Have the service verify `token`, which it remembers."""
    await client.get(kind.seen_at, headers={"Authorization": f"Bearer {token}"})


def requests_of(kind: Kind, token: str, others: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is sent, one after the other."""
    plain = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    yield "good", {"content": kind.good, "headers": plain}
    for name, body in kind.others.items():
        yield name, {"content": body, "headers": plain}
    for name, other in others.items():
        yield name, {"content": kind.good, "headers": plain | {"Authorization": f"Bearer {other}"}}
    for name, body in {"none": b"", "no JSON": b"{", "a list": b"[]", "no UTF-8": b"\xff"}.items():
        yield f"{name} as a body", {"content": body, "headers": plain}
    yield "a query", {"content": kind.good, "headers": plain, "params": {"x": "1"}}
    yield "text", {"content": kind.good, "headers": plain | {"Content-Type": "text/plain"}}
    yield "packed", {"content": kind.good, "headers": plain | {"Content-Encoding": "gzip"}}
    yield "two credentials", {"content": kind.good, "headers": plain | {"X-API-Key": "ask_test_0123abcd"}}
    yield "nobody", {"content": kind.good, "headers": {"Content-Type": "application/json"}}


async def answers(kind: Kind, service: Service[Any], name: str, users: RunningUserService) -> dict[str, Any]:
    """Return status, headers and body of the answer to each request, from a service of its own."""
    token = users.fake.service_token(kind.scope)
    others = {
        "a service that may not": users.fake.service_token(Scope.AUDIT_READ),
        "somebody else's service": users.fake.service_token(kind.scope, subject="user_service"),
        "a person": users.fake.user_token(),
    }
    found: dict[str, Any] = {}
    async with kind.open(service, name) as client:
        for each in (token, *others.values()):
            await remember(kind, client, each)
        for said, request in requests_of(kind, token, others):
            answer = await client.post(kind.path, **request)
            headers = {key: text for key, text in answer.headers.items() if key not in HEADERS_OF_THEIR_OWN}
            body = answer.json()
            body.pop("request_id", None)
            found[said] = (answer.status_code, headers, body)
    return found


class TestBothDoors:
    async def test_answer_alike(self, kind: Kind, users: RunningUserService) -> None:
        by_door = await answers(kind, kind.service, "door", users)
        by_route = await answers(kind, replace(kind.service, shortcuts=()), "route", users)

        assert by_door["good"][0] == by_door["again"][0] == 202
        assert by_door == by_route

    async def test_log_a_call_alike(
        self, kind: Kind, users: RunningUserService, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token = users.fake.service_token(kind.scope)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        logged: list[list[dict[str, Any]]] = []
        for name, service in (("door", kind.service), ("route", replace(kind.service, shortcuts=()))):
            async with kind.open(service, name) as client:
                await remember(kind, client, token)
                capsys.readouterr()
                await client.post(kind.path, content=kind.good, headers=headers)
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            logged.append([line for line in lines if line.get("route") == kind.path])

        changing = {"timestamp", "request_id", "ms"}
        by_door, by_route = (
            [{k: v for k, v in line.items() if k not in changing} for line in each] for each in logged
        )
        assert by_door == by_route
        assert [line["caller"] for line in by_door] == ["ai_service"]

    async def test_say_alike_when_to_come_again(
        self, tmp_path: Path, users: RunningUserService, bucket: Bucket
    ) -> None:
        found = []
        body = AuditBatch(records=(make_record(1), make_record(2))).model_dump_json()
        for name, service in (("door", LOG_SERVICE), ("route", replace(LOG_SERVICE, shortcuts=()))):
            (tmp_path / name).mkdir()
            settings = log_settings(tmp_path / name, users, bucket, spool_max_records=1)
            token = users.fake.service_token(Scope.AUDIT_WRITE)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            async with open_app(create_app(service, settings)) as client:
                await is_ready(client)
                await client.get("/v1/audit/days/2026-11-02", headers=headers)
                answer = await client.post("/v1/internal/audit-records", content=body, headers=headers)
            found.append(
                (answer.status_code, {k: v for k, v in answer.headers.items() if k != "x-request-id"})
            )

        assert found[0] == found[1]
        assert found[0][0] == 503
        assert found[0][1]["retry-after"] == "5"


class TestTheDoor:
    @pytest.mark.parametrize(
        ("router", "calls"), [(internal_records, RECORD_CALLS), (internal_alerts, ALERT_CALLS)]
    )
    def test_reads_the_model_of_the_route(self, router: APIRouter, calls: Mapping[str, InternalCall]) -> None:
        bodies = {
            route.path: route.body_field.field_info.annotation
            for route in router.routes
            if isinstance(route, APIRoute) and route.body_field is not None
        }

        assert {path: call.model for path, call in calls.items()}.items() <= bodies.items()

    async def test_answers_itself_what_is_plainly_good_and_nothing_else(
        self, kind: Kind, users: RunningUserService
    ) -> None:
        found = await answers(kind, kind.without_route, "door", users)

        answered = {name for name, (status, _, _) in found.items() if status != 404}
        assert {"good", "again"} <= answered
        # there is no route here that could say what is wrong
        assert not answered & {
            "a query", "text", "packed", "two credentials", "nobody", "a person", "no JSON as a body"
        }  # fmt: skip
