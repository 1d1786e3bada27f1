import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from alert_service.notifications import repository
from alert_service.notifications.mail import Mail
from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import OpenAlerts
from tests.commits import HELD_S
from tests.mail_server import MailServer
from tests.waiting import PATIENCE_S


class TestDurability:
    async def test_nothing_is_acknowledged_that_could_not_be_committed(
        self, open_alerts: OpenAlerts, tmp_path: Path
    ) -> None:
        async with open_alerts() as alerts:
            blocker = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")

            refused = await alerts.raise_alerts(alert_body())
            blocker.execute("ROLLBACK")
            blocker.close()
            found = await alerts.get("/v1/alerts/alr_1")
            repeated = await alerts.raise_alerts(alert_body())

        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:assay:problem:unavailable"
        assert found.status_code == 404
        assert repeated.json() == {"accepted": 1, "repeated": 0}

    async def test_the_answer_waits_for_the_commit(self, open_alerts: OpenAlerts, tmp_path: Path) -> None:
        async with open_alerts() as alerts:
            blocker = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            asked = asyncio.create_task(alerts.raise_alerts(alert_body()))

            done, _ = await asyncio.wait({asked}, timeout=0.5)
            blocker.execute("ROLLBACK")
            blocker.close()
            response = await asked

        assert not done
        assert response.status_code == 202

    async def test_more_than_can_be_saved_in_time_is_refused_and_what_was_accepted_is_there(
        self, open_alerts: OpenAlerts
    ) -> None:
        async with open_alerts(max_waiting=4) as alerts:
            answers = await asyncio.gather(
                *(alerts.raise_alerts(alert_body(alert_id=f"alr_{number}")) for number in range(60))
            )
            page = (await alerts.get("/v1/alerts?limit=200")).json()

        accepted = {f"alr_{number}" for number, answer in enumerate(answers) if answer.status_code == 202}
        refused = [answer for answer in answers if answer.status_code != 202]
        assert {item["alert"]["alert_id"] for item in page["items"]} == accepted
        assert refused
        assert {answer.status_code for answer in refused} == {503}
        assert all(answer.headers["Retry-After"] == "1" for answer in refused)


class TestStopping:
    async def test_while_mails_are_claimed_gives_them_back(
        self, open_alerts: OpenAlerts, mails: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim, begun, may_go_on = repository.claim, threading.Event(), threading.Event()

        def held(connection: Connection, **which: Any) -> list[Mail]:  # noqa: ANN401 - as it is called
            claimed = claim(connection, **which)
            if claimed:
                begun.set()
                assert may_go_on.wait(PATIENCE_S)
            return claimed

        monkeypatch.setattr(repository, "claim", held)
        async with open_alerts(mail_collect_s=0) as alerts:
            await alerts.raise_alerts(alert_body())
            assert await asyncio.to_thread(begun.wait, PATIENCE_S)
            asyncio.get_running_loop().call_later(HELD_S, may_go_on.set)
        with closing(sqlite3.connect(tmp_path / "alerts.db")) as database:
            leases = database.execute("SELECT leased_until_ms FROM mails").fetchall()

        assert leases == [(0,)]
        assert mails.received == []


class TestCounting:
    async def test_alerts_raised_by_many_at_once_are_new_once(self, open_alerts: OpenAlerts) -> None:
        async with open_alerts() as alerts:
            answers = await asyncio.gather(
                *(
                    alerts.raise_alerts(alert_body(), alert_body(), alert_body(alert_id="alr_2"))
                    for _ in range(10)
                )
            )

        counted = [answer.json() for answer in answers]
        assert sum(each["accepted"] for each in counted) == 2
        assert all(each["accepted"] + each["repeated"] == 3 for each in counted)
