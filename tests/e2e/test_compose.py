"""What docker-compose.yml says is enough: its commands and settings as processes, with a real PostgreSQL."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from common.clock import utc_now
from local_stack.accounts import access_token, register_sandbox
from local_stack.child import PROJECT
from local_stack.evidence import Evidence
from local_stack.files import StackFiles
from local_stack.parts import LOOPBACK, Part
from local_stack.sender import Sender
from local_stack.settings import GeoProvider, StackSettings
from local_stack.stack import Stack, owned_stack
from local_stack.tally import alert_id
from tests.e2e.stacks import stack_settings
from tests.factories import make_transaction
from tests.models import FINE, FRAUD, save_test_model
from tests.postgres import PostgresServer
from tests.waiting import eventually

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES = ("user_service", "external_apis_services", "log_service", "alert_service", "ai_service")
PAYMENTS = 60


def on_this_machine(value: str, settings: StackSettings, postgres: PostgresServer) -> str:
    """Turn what holds between containers into what holds between processes."""
    value = re.sub(r"\$\{\w+:\?[^}]*\}", "a-secret-for-tests-only-0123456789abcdef", value)
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    value = value.replace("@postgres:5432", f"@{LOOPBACK}:{postgres.port}").replace("0.0.0.0", LOOPBACK)  # noqa: S104
    value = value.replace("/var/lib/assay", str(settings.var_dir))
    return re.sub(
        r"^http://(\w+):\d+", lambda found: f"http://{LOOPBACK}:{port_of(found[1], settings)}", value
    )


def port_of(name: str, settings: StackSettings) -> int:
    return int(getattr(settings, f"{name}_port"))


def compose_part(name: str, settings: StackSettings, postgres: PostgresServer) -> Part:
    service = COMPOSE["services"][name]
    said: Mapping[str, str] = service["environment"]
    environment = {key: on_this_machine(value, settings, postgres) for key, value in said.items()}
    environment["PORT"] = str(port_of(name, settings))
    if "SMTP_PORT" in environment:
        environment["SMTP_PORT"] = str(settings.mailbox_smtp_port)
    python, dash_m, *command = service["command"]
    assert (python, dash_m) == ("python", "-m")
    return Part(name, "", tuple(command), {"PORT": port_of(name, settings)}, "/ready", None, environment)


@pytest.fixture
def stack(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Stack]:
    settings = stack_settings(tmp_path / "var")
    databases = re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"])
    for database in databases:
        postgres_server.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    save_test_model(StackFiles(settings.var_dir).models)
    with owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        beside = [part for part in stack.parts if part.name in {"object_store", "mailbox"}]
        stack.parts = (*beside, *(compose_part(name, settings, postgres_server) for name in SERVICES))
        stack.start()
        stack.await_ready()
        yield stack
    for database in databases:
        postgres_server.execute(f"DROP DATABASE {database} WITH (FORCE)")


class TestCompose:
    async def test_its_services_score_save_archive_and_mail(
        self, stack: Stack, postgres_server: PostgresServer
    ) -> None:
        login = await asyncio.to_thread(register_sandbox, stack.url("user_service"), name="In containers")
        token = await asyncio.to_thread(access_token, stack.url("user_service"), login)
        payments = [
            make_transaction(
                transaction_id=f"tx-{number}",
                event_time=utc_now().isoformat(),
                amount=FRAUD if number % 10 == 0 else FINE,
                customer_id=f"customer-{number}",
                device_id=f"device-{number}",
                payment_method=None,
            )
            for number in range(PAYMENTS)
        ]

        answers = await Sender(stack.url("ai_service"), token).send(payments)

        decided = {answer.scored.decision_id for answer in answers}
        flagged = {
            alert_id(answer.scored.decision_id) for answer in answers if answer.acknowledgement.flagged
        }
        assert len(flagged) >= PAYMENTS // 10
        with psycopg.connect(postgres_server.url("ai_service"), connect_timeout=5) as connection:
            assert {row[0] for row in connection.execute("SELECT decision_id FROM decisions")} == decided
        store = stack.url("object_store")
        with closing(Evidence(stack.files, login, object_store_url=store)) as evidence:

            async def everything_arrived() -> bool:
                archived = await asyncio.to_thread(evidence.archived)
                mailed = set().union(*await asyncio.to_thread(evidence.mails))
                return {kept.decision_id for kept in archived} == decided and mailed == flagged

            assert await eventually(everything_arrived, timeout_s=60)
