"""The real alert_service; user_service and the mail server are on the loopback."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from alert_service.main import SERVICE
from alert_service.settings import AlertSettings, SmtpSecurity
from common.app import create_app
from common.clock import utc_now
from common.contracts.institutions import Institution
from common.contracts.tokens import Scope
from tests.alert_factories import alert_body
from tests.asgi import open_app
from tests.conftest import RunningUserService
from tests.factories import SANDBOX
from tests.mail_server import MailServer, mail_server
from tests.waiting import PATIENCE_S, eventually

OpenAlerts = Callable[..., AbstractAsyncContextManager["Alerts"]]


@dataclass
class Alerts:
    """A running alert_service and shortcuts for talking to it."""

    client: httpx.AsyncClient
    users: RunningUserService

    async def raise_alerts(self, *bodies: dict[str, Any], token: str | None = None) -> httpx.Response:
        """Raise alerts as ai_service does."""
        chosen = token or self.users.fake.service_token(Scope.ALERTS_WRITE)
        headers = {"Authorization": f"Bearer {chosen}"}
        return await self.client.post("/v1/internal/alerts", json={"alerts": list(bodies)}, headers=headers)

    async def send_notices(
        self, *bodies: dict[str, Any], sender: str = "user_service", token: str | None = None
    ) -> httpx.Response:
        """Ask for mails as a service does."""
        chosen = token or self.users.fake.service_token(Scope.NOTICES_WRITE, subject=sender)
        headers = {"Authorization": f"Bearer {chosen}"}
        return await self.client.post("/v1/internal/notices", json={"notices": list(bodies)}, headers=headers)

    async def raise_some(self, count: int, **changes: Any) -> list[str]:  # noqa: ANN401 - any JSON
        """Raise `count` alerts together and return their ids."""
        ids = [f"alr_{changes.get('customer_id', 'x')}_{number}" for number in range(count)]
        response = await self.raise_alerts(*(alert_body(alert_id=each, **changes) for each in ids))
        assert response.status_code == 202, response.text
        return ids

    async def get(self, path: str, *, institution: Institution = SANDBOX) -> httpx.Response:
        """Get `path` as a user of `institution`."""
        token = self.users.fake.user_token(institution=institution)
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"})

    async def raise_for(self, institution_id: str, *alert_ids: str) -> None:
        """Raise alerts of an institution, together."""
        institution = {"institution_id": institution_id, "mode": "live", "base_currency": "EUR"}
        response = await self.raise_alerts(
            *(alert_body(alert_id=each, institution=institution) for each in alert_ids)
        )
        assert response.status_code == 202, response.text

    async def metric(self, sample: str) -> float:
        """Return the value of one line of the metrics, 0 when it is not there."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample + " ")), 0.0)

    async def until_state(
        self, alert_id: str, state: str, *, timeout_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """Wait until the alert's notification has `state` and return it."""
        return await eventually(
            lambda: self._notification(alert_id, lambda found: found["state"] == state), timeout_s=timeout_s
        )

    async def until_failed(self, alert_id: str, *, said: str | None = None) -> dict[str, Any]:
        """Wait until a try to tell the alert has failed, with these words if any are given."""
        return await eventually(
            lambda: self._notification(
                alert_id, lambda found: found["last_error"] and said in {None, found["last_error"]}
            )
        )

    async def _notification(self, alert_id: str, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(f"/v1/alerts/{alert_id}")).json()["notification"]
        return found if wanted(found) else {}


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    """A mail server that takes everything."""
    async with mail_server() as running:
        yield running


@pytest.fixture
async def open_alerts(users: RunningUserService, mails: MailServer, tmp_path: Path) -> OpenAlerts:
    """Start alert_service, as often as a test wants, on the same data."""

    @asynccontextmanager
    async def opened(**changes: Any) -> AsyncIterator[Alerts]:  # noqa: ANN401 - any setting
        settings = AlertSettings(
            **{
                "environment": "test",
                "database_url": SecretStr(f"sqlite:///{tmp_path}/alerts.db"),
                "user_service_url": users.url,
                "smtp_port": mails.port,
                "smtp_security": SmtpSecurity.NONE,
                "smtp_timeout_s": 10,
                "mail_collect_s": 0.2,
                "log_level": "error",
                **changes,
            }
        )
        async with open_app(create_app(SERVICE, settings)) as client:
            await eventually(lambda: _is_ready(client))
            yield Alerts(client, users)

    return opened


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


@pytest.fixture
async def alerts(open_alerts: OpenAlerts) -> AsyncIterator[Alerts]:
    """One running alert_service."""
    async with open_alerts() as opened:
        yield opened


@dataclass(frozen=True)
class Certificate:
    """A certificate that vouches for itself and the loopback: what a server shows, and the file to trust it by."""

    context: SSLContext
    file: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for the whole run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail server for tests")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return Certificate(context, folder / "certificate.pem")
