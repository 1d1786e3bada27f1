"""A backup that is made under load is restored into an empty stack, which keeps every promise made before it."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from local_stack.accounts import Login, access_token, register_sandbox
from local_stack.stack import Stack
from tests.e2e.deployments import Place, assay, databases_on, first_started, restored, started
from tests.faults.check_history import check_history
from tests.faults.evidence import Scope, waiting
from tests.faults.history import Attempt, Wanted
from tests.faults.load import Load, Mix
from tests.postgres import PostgresServer
from tests.waiting import PATIENCE_S, eventually

RATE = 30.0
SENDING_S = 4.0
WITHIN_S = 60.0
RECEIVERS = ("alert_service", "log_service")
MIX = Mix(rate=RATE, flagged=5)
LEAST = 100


@dataclass
class Bank:
    """An institution, what it was answered, and the key of its program."""

    login: Login
    token: str
    api_key: str
    history: list[Attempt] = field(default_factory=list)

    @property
    def scope(self) -> Scope:
        return Scope(self.login.institution_id, self.login.email)


def registered(stack: Stack, name: str) -> Bank:
    users = stack.url("user_service")
    login = register_sandbox(users, name=name)
    token = access_token(users, login)
    made = httpx.post(
        f"{users}/v1/api-keys",
        json={"name": "checkout", "scopes": ["score:write", "decisions:read"]},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=PATIENCE_S,
    )
    assert made.status_code == 201, made.text
    return Bank(login, token, made.json()["key"])


async def send(stack: Stack, bank: Bank, label: str, *, during: Callable[[], object] | None = None) -> None:
    """Send for some seconds, or for as long as a command takes, and repeat until everything has its answer."""
    load = Load(
        stack.url("ai_service"),
        bank.token,
        label=label,
        mix=MIX,
        timeout_s=10.0,
        institution_id=bank.login.institution_id,
    )
    async with load.running():
        await (asyncio.to_thread(during) if during else asyncio.sleep(SENDING_S))
    await load.converge(within_s=WITHIN_S)
    bank.history += load.history


async def at_rest(place: Place, stack: Stack, bank: Bank) -> None:
    async def nothing_waits() -> bool:
        return not waiting(place.sources(stack), bank.scope)

    await eventually(nothing_waits, timeout_s=WITHIN_S)


async def replayed(stack: Stack, attempts: Sequence[Attempt], **headers: str) -> list[httpx.Response]:
    """Send the first request of each transaction once more."""
    bodies = {each.transaction_id: each.body for each in attempts if each.wanted is Wanted.DECISION}
    async with httpx.AsyncClient(
        base_url=stack.url("ai_service"), headers=headers, trust_env=False, timeout=PATIENCE_S
    ) as client:
        return [
            await client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
            for body in bodies.values()
        ]


@pytest.fixture(params=["sqlite", "postgresql"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer
) -> Iterator[tuple[Place, Place]]:
    """Where the stack runs, and where it is restored to."""
    old, new = Place(tmp_path / "old", {}), Place(tmp_path / "new", {})
    if request.param == "sqlite":
        yield old, new
        return
    with databases_on(postgres_server) as first, databases_on(postgres_server) as second:
        yield Place(old.var, first), Place(new.var, second)


class TestBackupAndRestore:
    async def test_everything_acknowledged_before_it_is_kept(
        self, places: tuple[Place, Place], tmp_path: Path
    ) -> None:
        old, new = places
        backup = tmp_path / "backup.tar.encrypted"
        secret = {"BACKUP_PASSPHRASE": "a passphrase of some length"}

        with first_started(old) as stack:
            bank, busy = registered(stack, "bank"), registered(stack, "busy")
            await send(stack, bank, "told")
            for name in RECEIVERS:
                stack.stop_part(name)
            await send(stack, bank, "waiting")  # these wait in the outbox when the backup is made
            await send(
                stack,
                busy,
                "busy",
                during=lambda: assay("backup", str(backup), place=old, stack=stack, **secret),
            )
        restored_with(backup, new, old, secret)

        with started(new) as stack:
            shutil.copytree(old.files.mails, new.files.mails, dirs_exist_ok=True)
            token = access_token(stack.url("user_service"), bank.login)
            by_token = await replayed(stack, bank.history, Authorization=f"Bearer {token}")
            by_key = await replayed(stack, bank.history[:5], **{"X-API-Key": bank.api_key})
            await at_rest(new, stack, bank)
            found = check_history(
                bank.history,
                new.sources(stack),
                scope=bank.scope,
                models_dir=new.files.models,
                registered=[bank.login.institution_id],
            )

        answers = {each.transaction_id: each.answer for each in bank.history if each.decision_id}
        assert len(answers) > LEAST
        assert found == []
        for response in by_token + by_key:
            assert response.status_code == 200
            assert response.headers["Idempotent-Replay"]
            again = response.json()
            assert fixed(again) == fixed(answers[again["transaction_id"]])


def restored_with(backup: Path, new: Place, old: Place, secret: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in secret.items():
            environment.setenv(name, value)
        assay("backup", "--verify", str(backup), place=Place(new.var, {}))
        restored(backup, new, secrets_of=old)


def fixed(answer: dict[str, object] | None) -> dict[str, object]:
    """Return what never changes of an answer: who has been told by now does."""
    return {name: value for name, value in (answer or {}).items() if name != "deliveries"}
