"""A stack moves from SQLite to PostgreSQL and goes on where it was."""

from pathlib import Path

import httpx
import orjson
from sqlalchemy import select

from ai_service.scoring.tables import decisions
from common.clock import utc_now
from local_stack.stack import Stack
from tests.e2e.deployments import Place, assay, databases_on, first_started, started
from tests.e2e.test_backup_and_restore import at_rest, fixed, registered, replayed, send
from tests.factories import transaction_body
from tests.faults.check_history import check_history
from tests.faults.databases import connected
from tests.models import FINE
from tests.postgres import PostgresServer
from tests.waiting import PATIENCE_S


def velocity_of(place: Place, stack: Stack, body: dict[str, object], api_key: str) -> dict[str, object]:
    """Score a payment and return the features of its record that count earlier ones."""
    answer = httpx.post(
        f"{stack.url('ai_service')}/v1/score",
        json=body,
        headers={"X-API-Key": api_key},
        trust_env=False,
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 200, answer.text
    with connected(place.url("ai_service")) as connection:
        query = select(decisions.c.record).where(decisions.c.decision_id == answer.json()["decision_id"])
        features: dict[str, object] = orjson.loads(connection.scalar(query) or b"{}")["features"]
    return {name: value for name, value in features.items() if "_by_" in name}


class TestMove:
    async def test_everything_is_there_and_velocity_goes_on(
        self, tmp_path: Path, postgres_server: PostgresServer
    ) -> None:
        old = Place(tmp_path / "var", {})
        with databases_on(postgres_server) as urls:
            new = Place(old.var, urls)
            with first_started(old) as stack:
                bank = registered(stack, "bank")
                await send(stack, bank, "before")
                await at_rest(old, stack, bank)
                customer = orjson.loads(bank.history[0].body)["customer_id"]
            moved = [
                assay("move", "--from", old.url(service), "--to", url, place=Place(old.var, {}))
                for service, url in urls.items()
            ]
            (old.var / "velocity.npz").unlink()  # both count again from their databases
            probe = transaction_body(
                transaction_id="probe", event_time=utc_now().isoformat(), amount=FINE, customer_id=customer
            )

            with started(new) as stack:
                again = await replayed(stack, bank.history, **{"X-API-Key": bank.api_key})
                await at_rest(new, stack, bank)
                found = check_history(bank.history, new.sources(stack), scope=bank.scope)
                on_postgresql = velocity_of(new, stack, probe, bank.api_key)
            (old.var / "velocity.npz").unlink()
            with started(old) as stack:
                on_sqlite = velocity_of(old, stack, probe, bank.api_key)

        answers = {each.transaction_id: each.answer for each in bank.history if each.decision_id}
        assert all("equal" in shown for shown in moved)
        assert found == []
        assert [fixed(each.json()) for each in again] == [
            fixed(answers[each.json()["transaction_id"]]) for each in again
        ]
        assert on_postgresql == on_sqlite
        assert any(value not in {None, 0} for value in on_postgresql.values())
