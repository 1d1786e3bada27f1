"""A backup of the database is put back and goes on past what the other services know: they notice at once."""

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
from pydantic import SecretStr

from common.auth.access import AccessState
from common.auth.access_feed import AccessFeedClient
from common.auth.service_tokens import ServiceTokens
from common.contracts.tokens import ServiceTokenRequest
from common.http import service_client
from tests.integration.user_service.conftest import ALERT_SECRET, Processes, RunningProcess
from tests.integration.user_service.test_process import bearer, register
from tests.waiting import PATIENCE_S

Key = dict[str, str]


def copy_of(database: Path, copy: Path) -> None:
    """Copy a database as backups are made, while the service writes to it."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def put_back(copy: Path, database: Path) -> None:
    for left in database.parent.glob(f"{database.name}*"):
        left.unlink()
    copy_of(copy, database)


async def make_key(client: httpx.AsyncClient, admin: dict[str, str]) -> Key:
    body = {"name": "checkout", "scopes": ["score:write"]}
    response = await client.post("/v1/api-keys", headers=admin, json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def revoke(client: httpx.AsyncClient, admin: dict[str, str], key: Key) -> None:
    response = await client.delete(f"/v1/api-keys/{key['key_id']}", headers=admin)
    assert response.status_code == 204


async def poll(running: RunningProcess, state: AccessState) -> bool:
    """Poll once into `state`, as another service does every ten seconds."""
    credentials = ServiceTokenRequest(client_id="alert_service", client_secret=SecretStr(ALERT_SECRET))
    async with service_client(str(running.client.base_url), timeout_s=PATIENCE_S) as client:
        tokens = ServiceTokens(client, credentials=credentials)
        await tokens.renew()
        return await AccessFeedClient(client, tokens, state, poll_s=30).poll()


def let_in(state: AccessState, **keys: Key) -> set[str]:
    return {name for name, key in keys.items() if state.holder_of(key["key"].encode()) is not None}


class TestARestoredDatabase:
    async def test_that_went_on_is_believed_at_the_next_poll(
        self, processes: Processes, tmp_path: Path
    ) -> None:
        state = AccessState()
        async with processes.start() as first:
            await first.until_ready()
            admin = bearer((await register(first.client)).json()["tokens"]["access_token"])
            old, revoked = [await make_key(first.client, admin) for _ in range(2)]
            copy_of(processes.database, tmp_path / "backup.db")
            lost = await make_key(first.client, admin)
            await poll(first, state)
            before = (let_in(state, old=old, revoked=revoked, lost=lost), state.version)
            await first.stop()
        put_back(tmp_path / "backup.db", processes.database)

        async with processes.start() as second:
            await second.until_ready()
            await revoke(second.client, admin, revoked)
            new = [await make_key(second.client, admin) for _ in range(3)]
            worked = await poll(second, state)
            again = await poll(second, state)
            await second.stop()

        assert before[0] == {"old", "revoked", "lost"}
        assert (worked, again, state.version) == (True, True, before[1] + 3)
        assert let_in(state, old=old, revoked=revoked, lost=lost, new=new[0], newest=new[2]) == {
            "old",
            "new",
            "newest",
        }
