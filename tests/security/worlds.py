"""Each service as the security tests find it: running, known by everybody, and with things of one institution in it."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import httpx

from common.auth.signing import SigningKey, unlock
from common.contracts.roles import Role
from common.contracts.tokens import API_KEY_SCOPES
from tests.alert_factories import alert_body
from tests.api.ai_service.conftest import Ai
from tests.api.alert_service.conftest import Alerts
from tests.api.external_apis_services.conftest import RunningService
from tests.api.log_service.harness import RunningLogService, make_record
from tests.api.user_service.appointed import join
from tests.api.user_service.conftest import (
    AI_SECRET,
    ALERT_SECRET,
    Admin,
    exchange,
    make_key,
    register,
    service_token,
)
from tests.api.user_service.people import add_member, change, file_of, invite
from tests.fakes import FakeUserService
from tests.security.callers import (
    HOME,
    KEYS_SCOPES,
    Caller,
    api_keys,
    by_key,
    ended,
    people,
    services,
    shown,
    strangers,
)
from tests.security.routes import Endpoint
from user_service.settings import UserSettings

THING = "nothing_here"
"""What stands in a path for an id, where the world holds no such thing."""
Known = tuple[str, SigningKey, Sequence[Caller]]


@dataclass(frozen=True)
class World:
    """A running service. `good` is an admin's token, and `key` what it is signed with.

    `things` are ids of what belongs to the home institution, by their names in paths, or by a whole route where that
    needs a thing of its own; `users` is where the service gets its keys, if it has none of its own.
    """

    service: str
    client: httpx.AsyncClient
    good: str
    key: SigningKey
    callers: Sequence[Caller]
    things: Mapping[str, str] = field(default_factory=dict)
    users: FakeUserService | None = None

    @property
    def representatives(self) -> list[Caller]:
        """Return one caller of each kind: who has the same rights as another gets no further by another way in."""
        return list({caller.word: caller for caller in reversed(self.callers)}.values())

    def path(self, endpoint: Endpoint) -> str:
        """Return a real path: ids in the place of their names."""
        return "/".join(self._part(part, endpoint) for part in endpoint.path.split("/"))

    def _part(self, part: str, endpoint: Endpoint) -> str:
        if not part.startswith("{"):
            return part
        name = part[1:-1].partition(":")[0]
        return self.things.get(str(endpoint), self.things.get(name, THING))


def everybody(users: FakeUserService) -> Known:
    """Return an admin's token, its key and all callers of services that believe `users`, whose feed knows them."""
    good = users.user_token(institution=HOME)
    known = [*people(users), *services(users), *api_keys(users), *ended(users)]
    return good, users.key, [*known, *strangers(good, users.key, known)]


async def ai_world(ai: Ai, known: Known) -> World:
    """One transaction is scored."""
    scored = await ai.score(institution=HOME, transaction_id="tx-home")
    assert scored.status_code == 200, scored.text
    things = {"decision_id": scored.json()["decision_id"]}
    return World("ai_service", ai.client, *known, things, ai.users.fake)


async def alert_world(alerts: Alerts, known: Known) -> World:
    """One alert is raised."""
    raised = await alerts.raise_alerts(alert_body(alert_id="alr_home"))
    assert raised.status_code == 202, raised.text
    return World("alert_service", alerts.client, *known, {"alert_id": "alr_home"}, alerts.users.fake)


async def log_world(logs: RunningLogService, known: Known) -> World:
    """One record is handed over."""
    record = make_record(institution=HOME, record_id="dec_home")
    handed = await logs.hand_over([record])
    assert handed.status_code == 202, handed.text
    things = {"record_id": "dec_home", "day": record.created_at.date().isoformat()}
    return World("log_service", logs.client, *known, things, logs.users.fake)


async def external_world(running: RunningService, known: Known) -> World:
    """Nothing belongs to anybody here."""
    things = {"ip_address": "81.2.69.160"}
    return World("external_apis_services", running.client, *known, things, running.users)


async def user_world(client: httpx.AsyncClient, settings: UserSettings) -> World:
    """Two institutions with people and keys, who got in as everybody does."""
    home = await register(client, email="admin@home.example")
    elsewhere = await register(client, email="admin@elsewhere.example")
    with closing(sqlite3.connect(file_of(settings), isolation_level=None)) as database:
        staff = {
            role.value: await add_member(
                client, home, database, email=f"{role}@home.example", role=role.value
            )
            for role in (Role.VIEWER, Role.ANALYST, Role.BUILDER)
        }
        things = await _things(client, home, database)
        gone = await _gone(client, home, database)
        users = FakeUserService(_signing_key(database, settings))
    operator = await join(client, settings, "operator@platform.example")
    everyone_here = {"admin": home, **staff}
    known = [
        *(Caller(role, role, shown(person.access_token)) for role, person in everyone_here.items()),
        Caller("admin of another institution", "admin", shown(elsewhere.access_token), elsewhere=True),
        Caller("operator", "operator", shown(operator.access_token), elsewhere=True),
        *await _services(client, users),
        *await _keys(client, home, ""),
        *await _keys(client, elsewhere, " of another institution"),
        *gone,
        *await _of_a_suspended_institution(client, operator),
    ]
    callers = [*known, *strangers(home.access_token, users.key, known)]
    return World("user_service", client, home.access_token, users.key, callers, things)


async def _things(client: httpx.AsyncClient, home: Admin, database: sqlite3.Connection) -> dict[str, str]:
    """Make a person, a key, and what waits for a second admin: a request of theirs, and one of the first admin's."""
    second = await add_member(client, home, database, email="second@home.example", role="admin")
    person = await add_member(client, home, database, email="person@home.example")
    asked = await invite(client, second, email="third@home.example", role="admin")
    own = await invite(client, home, email="fourth@home.example", role="admin")
    assert (asked.status_code, own.status_code) == (202, 202), own.text
    return {
        "user_id": person.user_id,
        "key_id": (await make_key(client, home))["key_id"],
        "institution_id": home.institution_id,
        "approval_id": asked.json()["approval_id"],
        "POST /v1/approvals/{approval_id}/withdraw": own.json()["approval_id"],
    }


async def _gone(client: httpx.AsyncClient, home: Admin, database: sqlite3.Connection) -> list[Caller]:
    """Return people and keys whose rights were taken away."""
    disabled = await add_member(client, home, database, email="disabled@home.example", role="builder")
    lowered = await add_member(client, home, database, email="lowered@home.example", role="builder")
    left = await add_member(client, home, database, email="left@home.example")
    key = await make_key(client, home, scopes=[scope.value for scope in API_KEY_SCOPES])
    token = (await exchange(client, key)).json()["access_token"]
    ends = [
        await change(client, home, disabled.user_id, disabled=True),
        await change(client, home, lowered.user_id, role="viewer"),
        await client.post("/v1/auth/logout", json={"refresh_token": left.refresh_token}),
        await client.delete(f"/v1/api-keys/{key['key_id']}", headers=home.headers),
    ]
    assert [end.status_code for end in ends] == [200, 200, 204, 204]
    return [
        Caller("disabled person", "", shown(disabled.access_token)),
        Caller("person from before their role was lowered", "", shown(lowered.access_token)),
        Caller("ended session", "", shown(left.access_token)),
        Caller("revoked API key", "", by_key(key["key"])),
        Caller("revoked API key, exchanged", "", shown(token)),
    ]


async def _of_a_suspended_institution(client: httpx.AsyncClient, operator: Admin) -> list[Caller]:
    suspended = await register(client, email="admin@suspended.example")
    key = await make_key(client, suspended)
    path = f"/v1/institutions/{suspended.institution_id}"
    answer = await client.patch(path, headers=operator.headers, json={"suspended": True})
    assert answer.status_code == 200, answer.text
    return [
        Caller("admin of a suspended institution", "", shown(suspended.access_token)),
        Caller("key of a suspended institution", "", by_key(key["key"])),
    ]


async def _keys(client: httpx.AsyncClient, admin: Admin, whose: str) -> list[Caller]:
    """Return a real API key of each scope, and the token it is exchanged for."""
    found = []
    for word, scope in KEYS_SCOPES.items():
        key = await make_key(client, admin, scopes=[scope.value])
        token = (await exchange(client, key)).json()["access_token"]
        found += [
            Caller(f"{word}{whose}", word, by_key(key["key"]), elsewhere=bool(whose)),
            Caller(f"{word}{whose}, exchanged", word, shown(token), elsewhere=bool(whose)),
        ]
    return found


async def _services(client: httpx.AsyncClient, users: FakeUserService) -> list[Caller]:
    """Return our own services: by real tokens where the service was given their secret."""
    found = {caller.word: caller for caller in services(users)}
    for name, secret in {"ai_service": AI_SECRET, "alert_service": ALERT_SECRET}.items():
        word, token = f"service:{name}", (await service_token(client, name, secret)).json()["access_token"]
        found[word] = Caller(word, word, shown(token))
    return list(found.values())


def _signing_key(database: sqlite3.Connection, settings: UserSettings) -> SigningKey:
    """Return the running service's own key, so that attackers may have what nobody else has."""
    query = "SELECT kid, encrypted_pem FROM signing_keys ORDER BY generation DESC"
    kid, pem = database.execute(query).fetchone()
    return unlock(SigningKey(kid, pem), passphrase=settings.signing_key_passphrase.get_secret_value())
