"""Rights that are taken away end in every service within a minute, in whichever of the five ways they are taken away."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest

from local_stack.accounts import access_token, register_sandbox
from local_stack.stack import Stack
from tests.e2e.stacks import run_on_machine, stack_as_everybody_has_it
from tests.waiting import PATIENCE_S

WITHIN_S = 60.0
EVERY_S = 0.5
PASSWORD = "a long enough password of nobody"
ASKED = {"ai_service": "/v1/transactions", "alert_service": "/v1/alerts"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_as_everybody_has_it(tmp_path_factory.mktemp("stack")) as running:
        yield running


@dataclass(frozen=True)
class People:
    """What the tests do at user_service, as people and operators do it."""

    stack: Stack
    client: httpx.Client

    def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **body: object
    ) -> httpx.Response:
        response = self.client.request(method, path, headers=headers, json=body or None)
        response.raise_for_status()
        return response

    def join(self, *command: str, email: str) -> tuple[str, dict[str, str]]:
        """Run `python -m user_service.operators`, join with the token it prints; return user id and header."""
        printed = run_on_machine(self.stack, "user_service.operators", *command, "--email", email)
        lines = printed.splitlines()
        tokens = self.send("POST", "/v1/auth/invitations/accept", token=lines[-1], password=PASSWORD).json()
        return lines[0].split()[0], bearer(tokens["access_token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Right:
    """What lets somebody in, and how it is taken away."""

    header: dict[str, str]
    take_away: Callable[[], object]


def make_rights(people: People) -> dict[str, Right]:
    """Return one right of each kind that can be taken away, made through the real API."""
    users = people.stack.url("user_service")
    login, other = (register_sandbox(users, name=name) for name in ("Harbour Payments", "Quay Bank"))
    admin, owner = bearer(access_token(users, login)), bearer(access_token(users, other))
    _, operator = people.join("invite", email="operator@assay.example")
    appoint = ("admin", "--institution", login.institution_id)
    disabled, disabled_header = people.join(*appoint, email="disabled@harbour.example")
    lowered, lowered_header = people.join(*appoint, email="lowered@harbour.example")
    credentials = {"email": login.email, "password": login.password}
    session = people.send("POST", "/v1/auth/login", None, **credentials).json()
    scopes = ["decisions:read", "alerts:read"]
    key = people.send("POST", "/v1/api-keys", admin, name="checkout", scopes=scopes).json()

    def change(user_id: str, **body: object) -> Callable[[], object]:
        return lambda: people.send("PATCH", f"/v1/users/{user_id}", admin, **body)

    return {
        "disabled user": Right(disabled_header, change(disabled, disabled=True)),
        "lowered role": Right(lowered_header, change(lowered, role="viewer")),
        "revoked API key": Right(
            {"X-API-Key": key["key"]},
            lambda: people.send("DELETE", f"/v1/api-keys/{key['key_id']}", admin),
        ),
        "logged-out token": Right(
            bearer(session["access_token"]),
            lambda: people.send("POST", "/v1/auth/logout", refresh_token=session["refresh_token"]),
        ),
        "suspended institution": Right(
            owner,
            lambda: people.send(
                "PATCH", f"/v1/institutions/{other.institution_id}", operator, suspended=True
            ),
        ),
    }


class Asker:
    """Asks the services with a right what they answer to it."""

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self._stack = stack
        self._client = client

    def status(self, service: str, right: Right) -> int:
        url = self._stack.url(service) + ASKED[service]
        return self._client.get(url, headers=right.header).status_code

    def until(self, status: int, since: Mapping[str, float], rights: Mapping[str, Right]) -> dict[str, float]:
        """Ask with every right until every service answers `status`; return after how long each did."""
        waiting = {(kind, service) for kind in rights for service in ASKED}
        taken: dict[str, float] = {}
        deadline = time.monotonic() + WITHIN_S
        while waiting and time.monotonic() < deadline:
            for kind, service in sorted(waiting):
                if self.status(service, rights[kind]) == status:
                    taken[f"{kind}, {service}"] = time.monotonic() - since[kind]
                    waiting.remove((kind, service))
            if waiting:
                time.sleep(EVERY_S)
        assert not waiting, f"not answered {status} within {WITHIN_S:.0f} s: {sorted(waiting)}"
        return taken


class TestRightsThatAreTakenAway:
    def test_end_in_every_service_within_a_minute(self, stack: Stack) -> None:
        users = stack.url("user_service")
        with (
            httpx.Client(timeout=PATIENCE_S, trust_env=False) as client,
            httpx.Client(base_url=users, timeout=PATIENCE_S, trust_env=False) as at_users,
        ):
            asker = Asker(stack, client)
            rights = make_rights(People(stack, at_users))
            asker.until(200, dict.fromkeys(rights, time.monotonic()), rights)
            since: dict[str, float] = {}
            for kind, right in rights.items():
                right.take_away()
                since[kind] = time.monotonic()
            measured = asker.until(401, since, rights)

        for name, seconds in measured.items():
            print(f"{name}: refused after {seconds:.1f} s")  # noqa: T201 - the measurement
        assert len(measured) == len(rights) * len(ASKED)
        assert max(measured.values()) <= WITHIN_S
