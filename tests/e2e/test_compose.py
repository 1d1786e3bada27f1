"""What docker-compose.yml says is enough: its commands and settings as processes, with a real PostgreSQL and Valkey.

Its institution is registered as it is there: with the token from a mail.
"""

import asyncio
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from common.clock import utc_now
from local_stack.accounts import Login, access_token
from local_stack.child import PROJECT
from local_stack.evidence import Evidence
from local_stack.files import StackFiles
from local_stack.mailbox.store import MailStore
from local_stack.parts import Part
from local_stack.sender import Sender
from local_stack.settings import LOOPBACK, GeoProvider, StackSettings
from local_stack.stack import Stack, owned_stack
from local_stack.tally import alert_id
from tests.e2e.stacks import stack_settings, unhurried
from tests.factories import make_transaction
from tests.models import FINE, FRAUD, save_test_model
from tests.postgres import PostgresServer, seeing_all
from tests.postgres_tls import tls_in_front
from tests.valkey import ValkeyServer, running_valkey
from tests.waiting import PATIENCE_S, eventually

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES = ("user_service", "external_apis_services", "log_service", "alert_service", "ai_service")
PAYMENTS = 60


@dataclass(frozen=True)
class Servers:
    """The servers that the services share: where PostgreSQL is reached over TLS, what its certificate is checked with."""

    postgres_port: int
    authority: Path
    valkey: ValkeyServer


def filled_in(value: str) -> str:
    """Fill in what `make compose-env` makes."""
    return re.sub(r"\$\{\w+:\?[^}]*\}", "a-secret-for-tests-only-0123456789abcdef", value)


def on_this_machine(value: str, settings: StackSettings, servers: Servers) -> str:
    """Turn what holds between containers into what holds between processes; these Valkeys speak no TLS."""
    value = filled_in(value)
    value = re.sub(
        r"^valkeys://(.*)@valkey:6379/0\?ca=/etc/assay/ca.crt$",
        rf"valkey://\1@{LOOPBACK}:{servers.valkey.port}/0",
        value,
    )
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    value = value.replace("@postgres:5432", f"@{LOOPBACK}:{servers.postgres_port}")
    value = value.replace("0.0.0.0", LOOPBACK)  # noqa: S104
    value = value.replace("/etc/assay/ca.crt", str(servers.authority))
    value = value.replace("/var/lib/assay", str(settings.var_dir))
    return re.sub(
        r"^http://(\w+):\d+", lambda found: f"http://{LOOPBACK}:{port_of(found[1], settings)}", value
    )


def port_of(name: str, settings: StackSettings) -> int:
    return int(getattr(settings, f"{name}_port"))


def compose_part(name: str, settings: StackSettings, servers: Servers) -> Part:
    service = COMPOSE["services"][name]
    said: Mapping[str, str] = service["environment"]
    environment = {key: on_this_machine(value, settings, servers) for key, value in said.items()}
    environment["PORT"] = str(port_of(name, settings))
    if "REGISTRATION_TIER" in environment:
        environment["REGISTRATION_TIER"] = (
            "growth"  # what this test sends at once is more than the smallest tier's
        )
    if "SMTP_PORT" in environment:
        environment["SMTP_PORT"] = str(settings.mailbox_smtp_port)
    python, dash_m, *command = service["command"]
    assert (python, dash_m) == ("python", "-m")
    return Part(name, "", tuple(command), {"PORT": port_of(name, settings)}, "/ready", None, environment)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey with the users, the memory and the policy that are said there."""
    users = tmp_path / "users.acl"
    users.write_text(filled_in(COMPOSE["configs"]["valkey_users"]["content"]))
    said = COMPOSE["services"]["valkey"]["command"]
    kept = [
        word
        for option, value in pairwise(said)
        if option in {"--maxmemory", "--maxmemory-policy", "--appendonly", "--appendfsync"}
        for word in (option, value)
    ]
    with running_valkey("--aclfile", str(users), *kept) as server:
        yield server


@pytest.fixture
def servers(tmp_path: Path, postgres_server: PostgresServer, valkey: ValkeyServer) -> Iterator[Servers]:
    """PostgreSQL with the certificate that `make compose-env` makes, and Valkey."""
    (tmp_path / "Makefile").write_text((PROJECT / "Makefile").read_text())
    subprocess.run(["make", "-C", tmp_path, "compose-env"], capture_output=True, check=True, timeout=60)  # noqa: S607
    made = tmp_path / "var" / "compose-tls"
    with tls_in_front(postgres_server.port, certificate=made / "server.crt", key=made / "server.key") as port:
        yield Servers(port, made / "ca.crt", valkey)


@pytest.fixture
def stack(tmp_path: Path, postgres_server: PostgresServer, servers: Servers) -> Iterator[Stack]:
    settings = stack_settings(tmp_path / "stack")
    databases = re.findall(r"CREATE DATABASE (\w+) OWNER assay;", COMPOSE["configs"]["databases"]["content"])
    for database in databases:
        postgres_server.create_database(database)
    save_test_model(StackFiles(settings.var_dir).models)
    with unhurried(), owned_stack(settings, geoip_provider=GeoProvider.MOCK) as stack:
        beside = [part for part in stack.parts if part.name in {"object_store", "mailbox"}]
        stack.parts = (*beside, *(compose_part(name, settings, servers) for name in SERVICES))
        stack.start()
        stack.await_ready()
        yield stack
    for database in databases:
        postgres_server.drop_database(database)


async def registered(stack: Stack) -> Login:
    """Register a sandbox institution and confirm it with the token that its admin is mailed."""
    email, password, name = "ada@harbour.example", "tide-and-lantern-42", "In containers"
    body = {
        "name": name,
        "mode": "sandbox",
        "base_currency": "EUR",
        "admin": {"email": email, "password": password, "full_name": "Ada Okafor"},
    }
    store = MailStore(stack.files.mails)

    async def token() -> str | None:
        texts = [mail.text("plain") for mail in map(store.read, store.ids()) if mail is not None]
        found = re.search(r"reg_\w+\.[0-9a-f]{64}", "\n".join(text or "" for text in texts))
        return found and found[0]

    async with httpx.AsyncClient(
        base_url=stack.url("user_service"), trust_env=False, timeout=PATIENCE_S
    ) as client:
        asked = await client.post("/v1/institutions", json=body)
        assert asked.status_code == 202, asked.text
        mailed = await eventually(token, timeout_s=30)
        confirmed = await client.post(
            "/v1/institutions/confirm", json={"token": mailed, "password": password}
        )
    assert confirmed.status_code == 201, confirmed.text
    return Login(confirmed.json()["institution_id"], name, email, password)


class TestCompose:
    async def test_its_services_score_save_archive_and_mail(
        self, stack: Stack, postgres_server: PostgresServer
    ) -> None:
        login = await registered(stack)
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
        with psycopg.connect(seeing_all(postgres_server.url("ai_service")), connect_timeout=30) as connection:
            assert {row[0] for row in connection.execute("SELECT decision_id FROM decisions")} == decided
        store = stack.url("object_store")
        with closing(Evidence(stack.files, login, object_store_url=store)) as evidence:

            async def everything_arrived() -> bool:
                archived = await asyncio.to_thread(evidence.archived)
                mailed = set().union(*await asyncio.to_thread(evidence.mails))
                return {kept.decision_id for kept in archived} == decided and mailed == flagged

            assert await eventually(everything_arrived, timeout_s=60)
        for name in ("ai_service", "user_service"):
            metrics = await asyncio.to_thread(httpx.get, f"{stack.url(name)}/metrics", trust_env=False)
            found = {
                line.split(" ")[0]: float(line.split(" ")[1])
                for line in metrics.text.splitlines()
                if line.startswith("assay_")
            }
            assert found["assay_valkey_calls_total"] > 0
            assert found["assay_rate_limits_shared"] == 1
            assert found['assay_circuit_open{circuit="valkey"}'] == 0
            assert not [
                each
                for each in found
                if each.startswith("assay_valkey_errors_total") and 'kind="refused"' in each
            ]
