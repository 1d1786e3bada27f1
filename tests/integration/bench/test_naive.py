"""The usual way, with everything it calls as one small server: it must do the work it is compared by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import create_engine, text

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.ml.examples import replay, simulated_rates
from ai_service.ml.simulator import simulate
from ai_service.ml.training import SIMULATION_START, save, train
from bench.naive.scoring import app
from bench.rulesets import generated_rules, write_rules
from bench.stream import MARKED
from common.auth.signing import SigningKey, generate_signing_key, public_jwk, sign_access_token, unlock
from common.clock import epoch_ms, utc_now
from tests.factories import transaction_body
from tests.servers import serving

PASSPHRASE = "a passphrase for tests"


@dataclass
class Others:
    """user_service, GeoIP, alert_service and the log service, as far as the usual way sees them."""

    key: SigningKey
    alerts: list[Any] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    callers: set[str] = field(default_factory=set)

    def app(self) -> FastAPI:
        others = FastAPI()

        @others.get("/.well-known/jwks.json")
        async def keys() -> dict[str, Any]:
            return {"keys": [public_jwk(self.key)]}

        @others.post("/v1/internal/service-tokens")
        async def token() -> dict[str, Any]:
            return {"access_token": "service-token"}

        @others.get("/v1/internal/geoip/{address}")
        async def locate(address: str, request: Request) -> dict[str, Any]:
            self.callers.add(request.headers["authorization"])
            return {"ip_address": address, "location": {"status": "found", "country": "DE"}}

        @others.post("/v1/internal/alerts")
        async def alert(request: Request) -> dict[str, Any]:
            self.alerts += (await request.json())["alerts"]
            return {}

        @others.post("/records")
        async def record(request: Request) -> dict[str, Any]:
            self.records.append(await request.json())
            return {}

        return others

    def user_token(self) -> str:
        now = epoch_ms() // 1000
        claims: dict[str, Any] = {
            "sub": "usr_test",
            "institution_id": "ins_test",
            "institution_mode": "sandbox",
            "base_currency": "EUR",
            "iss": "assay",
            "aud": "assay",
            "iat": now,
            "exp": now + 60,
        }
        return sign_access_token(claims, self.key)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    payments = simulate(seed=3, customers=150, days=12, start=SIMULATION_START, fraud_rate=0.1)
    examples = replay(payments, rates=simulated_rates(SIMULATION_START), advance=lambda: None)
    trained = train(examples, seed=3, advance=lambda: None)
    return save(tmp_path_factory.mktemp("models"), trained, name="naive", seed=3, now=utc_now())


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return unlock(generate_signing_key(passphrase=PASSPHRASE), passphrase=PASSPHRASE)


@pytest.fixture
def others(key: SigningKey) -> Others:
    return Others(key)


@asynccontextmanager
async def naive(
    others: Others,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    client_per_call: bool,
) -> AsyncIterator[httpx.AsyncClient]:
    rules = write_rules(tmp_path / "rules.yaml", generated_rules(10, FEATURE_NAMES))
    async with serving(others.app()) as url:
        settings = {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'naive.db'}",
            "MODEL_FOLDER": str(model_folder),
            "RULES_FILE": str(rules),
            "CLIENT_SECRET": "secret",
            "CLIENT_PER_CALL": str(client_per_call),
            **dict.fromkeys(("USER_SERVICE_URL", "GEOIP_URL", "ALERT_URL", "LOG_URL"), url),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        headers = {"Authorization": f"Bearer {others.user_token()}"}
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://naive", headers=headers) as client,
        ):
            yield client


def saved(tmp_path: Path) -> list[str]:
    engine = create_engine(f"sqlite:///{tmp_path / 'naive.db'}")
    with engine.connect() as connection:
        found = list(connection.scalars(text("SELECT transaction_id FROM decisions")))
    engine.dispose()
    return found


class TestNaive:
    @pytest.mark.parametrize("client_per_call", [False, True])
    async def test_a_marked_payment_is_saved_archived_and_alerted(
        self,
        others: Others,
        tmp_path: Path,
        model_folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        client_per_call: bool,  # noqa: FBT001 - a parameter of the table
    ) -> None:
        async with naive(
            others, tmp_path, model_folder, monkeypatch, client_per_call=client_per_call
        ) as client:
            answer = await client.post("/v1/score", json=transaction_body(merchant_category=MARKED))

        assert answer.status_code == 200
        assert 0 <= answer.json()["fraud_probability"] <= 1
        assert saved(tmp_path) == ["tx-1"]
        assert [record["decision_id"] for record in others.records] == [answer.json()["decision_id"]]
        assert [alert["transaction_id"] for alert in others.alerts] == ["tx-1"]
        assert others.callers == {"Bearer service-token"}

    async def test_a_token_that_nobody_signed_is_refused(
        self, others: Others, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with naive(others, tmp_path, model_folder, monkeypatch, client_per_call=False) as client:
            answer = await client.post(
                "/v1/score", json=transaction_body(), headers={"Authorization": "Bearer a.b.c"}
            )

        assert answer.status_code == 401
        assert saved(tmp_path) == []
