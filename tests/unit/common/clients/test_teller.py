"""The three clients that tell another service something: of alerts, audit records and notices."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ai_service.clients.alerts import AlertClient
from common.circuit import Circuit
from common.clients.logs import LogClient
from common.clients.notices import NoticeClient
from common.contracts.alerts import AlertBatch
from common.contracts.audit_records import AuditBatch
from common.contracts.notices import NoticeBatch
from common.delivery import Courier, Delivery, courier
from tests.alert_factories import make_alert
from tests.api.log_service.harness import make_records
from tests.notice_factories import make_notice
from tests.raw_servers import answering, reply
from tests.servers import serving
from tests.waiting import PATIENCE_S


@dataclass
class Token:
    """A token that lets its holder in until it is refused."""

    refusals: list[str] = field(default_factory=list)

    def header(self) -> dict[str, str]:
        return {"Authorization": "Bearer service-token"}

    def was_refused(self) -> None:
        self.refusals.append("service-token")


@dataclass(frozen=True)
class Told:
    """How one of the clients tells `items`, and what must arrive of them."""

    target: str
    path: str
    batch: type[BaseModel]
    items: list[Any]
    tell: Callable[..., Awaitable[Delivery]]
    client: type[LogClient] | type[NoticeClient] | type[AlertClient]

    def by(self, client: Courier, tokens: Token, circuit: Circuit | None = None) -> Awaitable[Delivery]:
        return self.tell(self.client(client, tokens, circuit=circuit), self.items)


RECORDS = Told(
    "audit",
    "/v1/internal/audit-records",
    AuditBatch,
    [record.model_dump(mode="json") for record in make_records(2)],
    LogClient.archive,
    LogClient,
)
NOTICES = Told(
    "notices",
    "/v1/internal/notices",
    NoticeBatch,
    [make_notice(), make_notice(notice_id="ntc_2")],
    NoticeClient.hand_over,
    NoticeClient,
)
ALERTS = Told(
    "alert",
    "/v1/internal/alerts",
    AlertBatch,
    [make_alert(), make_alert(alert_id="alr_2")],
    AlertClient.raise_alerts,
    AlertClient,
)


@pytest.mark.parametrize("told", [RECORDS, NOTICES, ALERTS], ids=lambda told: str(told.target))
class TestTeller:
    async def test_posts_all_together_with_its_own_token(self, told: Told) -> None:
        arrived: list[tuple[str, bytes]] = []

        async def receive(request: Request) -> Response:
            arrived.append((request.headers["authorization"], await request.body()))
            return JSONResponse({"accepted": 2}, status_code=202)

        async with (
            serving(Starlette(routes=[Route(told.path, receive, methods=["POST"])])) as base_url,
            courier(base_url, timeout_s=PATIENCE_S) as client,
        ):
            delivery = await told.by(client, Token())

        ((token, body),) = arrived
        batch = told.batch.model_validate_json(body)
        assert delivery == Delivery(told.target, delivered=True)
        assert token == "Bearer service-token"
        assert batch == told.batch.model_validate({next(iter(told.batch.model_fields)): told.items})

    async def test_tells_in_several_calls_what_is_too_long_for_one(
        self, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.clients.teller.MAX_CALL_BYTES", 10)
        arrived: list[Any] = []

        async def receive(request: Request) -> Response:
            arrived.append(told.batch.model_validate_json(await request.body()))
            return JSONResponse({"accepted": 1}, status_code=202)

        async with (
            serving(Starlette(routes=[Route(told.path, receive, methods=["POST"])])) as base_url,
            courier(base_url, timeout_s=PATIENCE_S) as client,
        ):
            delivery = await told.by(client, Token())

        assert delivery == Delivery(told.target, delivered=True)
        name = next(iter(told.batch.model_fields))
        assert arrived == [told.batch.model_validate({name: [item]}) for item in told.items]

    async def test_tells_no_more_once_a_call_failed(
        self, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.clients.teller.MAX_CALL_BYTES", 10)
        circuit = Circuit(told.target, failures_to_open=2)
        async with answering(reply(503)) as base_url, courier(base_url, timeout_s=PATIENCE_S) as client:
            delivery = await told.by(client, Token(), circuit)

        assert delivery == Delivery(told.target, delivered=False, error="status 503")
        assert not circuit.is_open

    async def test_tells_nobody_of_nothing(self, told: Told) -> None:
        async with answering(reply(500)) as base_url, courier(base_url, timeout_s=PATIENCE_S) as client:
            delivery = await told.tell(told.client(client, Token()), [])

        assert delivery == Delivery(told.target, delivered=True)

    async def test_says_that_its_token_was_refused(self, told: Told) -> None:
        tokens = Token()
        async with answering(reply(401)) as base_url, courier(base_url, timeout_s=PATIENCE_S) as client:
            delivery = await told.by(client, tokens)

        assert delivery == Delivery(told.target, delivered=False, error="status 401")
        assert tokens.refusals == ["service-token"]

    async def test_tells_its_circuit_and_asks_it(self, told: Told) -> None:
        circuit = Circuit(told.target, failures_to_open=1)
        async with answering(reply(503)) as base_url, courier(base_url, timeout_s=PATIENCE_S) as client:
            errors = [(await told.by(client, Token(), circuit)).error for _ in range(2)]

        assert errors == ["status 503", "circuit open"]
