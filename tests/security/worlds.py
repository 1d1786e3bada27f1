"""Each service as the security tests find it: running, known by everybody, and with things of one institution in it."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import httpx

from common.auth.signing import SigningKey, unlock
from common.contracts.institutions import Institution, InstitutionMode
from tests.alert_factories import alert_body
from tests.api.ai_service.conftest import Ai
from tests.api.alert_service.conftest import Alerts
from tests.api.external_apis_services.conftest import RunningService
from tests.api.log_service.harness import RunningLogService, make_record
from tests.api.user_service.conftest import AI_SECRET, ALERT_SECRET, PASSWORD, register, service_token
from tests.fakes import FakeUserService
from tests.security.callers import HOME, Caller, api_keys, people, services, shown, strangers
from user_service.settings import UserSettings
from user_service.users.roles import Role

THING = "nothing_here"
"""What stands in a path for an id, where the world holds no such thing."""


@dataclass(frozen=True)
class World:
    """A running service. `good` is an admin's token, and `key` what it is signed with.

    `things` are ids of what belongs to the home institution, by their names in paths; `users` is where the service gets
    its keys, if it has none of its own.
    """

    service: str
    client: httpx.AsyncClient
    good: str
    key: SigningKey
    callers: Sequence[Caller]
    things: Mapping[str, str] = field(default_factory=dict)
    users: FakeUserService | None = None

    def path(self, template: str) -> str:
        """Return a real path: ids in the place of their names."""
        parts = (part[1:-1].partition(":")[0] if part.startswith("{") else "" for part in template.split("/"))
        return "/".join(
            self.things.get(name, THING) if name else part
            for name, part in zip(parts, template.split("/"), strict=True)
        )


async def ai_world(ai: Ai) -> World:
    """One transaction is scored."""
    scored = await ai.score(institution=HOME, transaction_id="tx-home")
    assert scored.status_code == 200, scored.text
    return _world("ai_service", ai.client, ai.users.fake, decision_id=scored.json()["decision_id"])


async def alert_world(alerts: Alerts) -> World:
    """One alert is raised."""
    raised = await alerts.raise_alerts(alert_body(alert_id="alr_home"))
    assert raised.status_code == 202, raised.text
    return _world("alert_service", alerts.client, alerts.users.fake, alert_id="alr_home")


async def log_world(logs: RunningLogService) -> World:
    """One record is handed over."""
    record = make_record(institution=HOME, record_id="dec_home")
    handed = await logs.hand_over([record])
    assert handed.status_code == 202, handed.text
    day = record.created_at.date().isoformat()
    return _world("log_service", logs.client, logs.users.fake, record_id="dec_home", day=day)


async def external_world(running: RunningService) -> World:
    """Nothing belongs to anybody here."""
    return _world("external_apis_services", running.client, running.users, ip_address="81.2.69.160")


def _world(service: str, client: httpx.AsyncClient, users: FakeUserService, **things: str) -> World:
    known = [*people(users), *services(users), *api_keys(users)]
    good = users.user_token(institution=HOME)
    return World(service, client, good, users.key, [*known, *strangers(users, good)], things, users)


async def user_world(client: httpx.AsyncClient, settings: UserSettings) -> World:
    """Two institutions are registered; everybody has logged in, and services have got their tokens."""
    home = await register(client, email="admin@home.example")
    elsewhere = await register(client, email="admin@elsewhere.example")
    known = [
        Caller("admin", Role.ADMIN.value, shown(home.access_token)),
        Caller(
            "admin of another institution", Role.ADMIN.value, shown(elsewhere.access_token), elsewhere=True
        ),
    ]
    path = settings.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        users = FakeUserService(_signing_key(database, settings))
        for role in set(Role) - {Role.ADMIN}:
            _add_person(database, role.value, like=home.user_id)
            known.append(Caller(role.value, role.value, shown(await _log_in(client, role.value))))
        _add_person(database, "disabled", like=home.user_id)
        disabled = Caller("disabled user", "", shown(await _log_in(client, "disabled")), ended=True)
        database.execute("UPDATE users SET disabled_at_ms = 1 WHERE user_id = 'usr_disabled'")
    real = {"ai_service": AI_SECRET, "alert_service": ALERT_SECRET}
    for name, secret in real.items():
        token = (await service_token(client, name, secret)).json()["access_token"]
        known.append(Caller(f"service:{name}", f"service:{name}", shown(token)))
    known += [each for each in services(users) if each.word not in {caller.word for caller in known}]
    known += api_keys(users, _institution(home.institution_id), _institution(elsewhere.institution_id))
    return World(
        "user_service",
        client,
        home.access_token,
        users.key,
        [*known, disabled, *strangers(users, home.access_token)],
        {"institution_id": home.institution_id},
    )


def _institution(institution_id: str) -> Institution:
    return Institution(institution_id=institution_id, mode=InstitutionMode.SANDBOX, base_currency="EUR")


def _signing_key(database: sqlite3.Connection, settings: UserSettings) -> SigningKey:
    """Return the running service's own key, so that attackers may have what nobody else has."""
    kid, pem = database.execute(
        "SELECT kid, encrypted_pem FROM signing_keys ORDER BY generation DESC"
    ).fetchone()
    return unlock(SigningKey(kid, pem), passphrase=settings.signing_key_passphrase.get_secret_value())


def _add_person(database: sqlite3.Connection, name: str, *, like: str) -> None:
    """Copy a person under another name, with the role of that name if there is one."""
    role = name if name in set(Role) else Role.ADMIN.value
    columns = [row[1] for row in database.execute("PRAGMA table_info(users)")]
    changed = {"user_id": f"usr_{name}", "email": f"{name}@home.example", "email_key": f"{name}@home.example"}
    values = {**changed, "role": role}
    chosen = ", ".join(":" + column if column in values else column for column in columns)
    database.execute(
        f"INSERT INTO users ({', '.join(columns)}) SELECT {chosen} FROM users WHERE user_id = :like",  # noqa: S608
        {**values, "like": like},
    )


async def _log_in(client: httpx.AsyncClient, name: str) -> str:
    body = {"email": f"{name}@home.example", "password": PASSWORD}
    response = await client.post("/v1/auth/login", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])
