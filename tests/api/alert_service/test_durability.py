import asyncio
import sqlite3
from pathlib import Path

from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import OpenAlerts


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
