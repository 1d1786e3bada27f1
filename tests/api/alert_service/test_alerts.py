import asyncio

import pytest

from common.contracts.institutions import Institution, InstitutionMode
from common.contracts.tokens import Scope
from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts, OpenAlerts

OTHER = Institution(institution_id="ins_other", mode=InstitutionMode.LIVE, base_currency="EUR")


class TestAccepting:
    async def test_new_alerts_are_accepted_and_repeats_change_nothing(self, alerts: Alerts) -> None:
        first = await alerts.raise_alerts(alert_body(), alert_body(alert_id="alr_2"))
        again = await alerts.raise_alerts(alert_body(risk_score=1), alert_body(alert_id="alr_3"))

        assert first.status_code == again.status_code == 202
        assert first.json() == {"accepted": 2, "repeated": 0}
        assert again.json() == {"accepted": 1, "repeated": 1}
        assert (await alerts.get("/v1/alerts/alr_1")).json()["alert"]["risk_score"] == 92

    async def test_the_same_alert_from_many_at_once_is_one_alert(self, alerts: Alerts) -> None:
        await asyncio.gather(*(alerts.raise_alerts(alert_body()) for _ in range(20)))

        assert len((await alerts.get("/v1/alerts")).json()["items"]) == 1

    async def test_accepted_alerts_are_there_after_a_restart(self, open_alerts: OpenAlerts) -> None:
        async with open_alerts() as before:
            await before.raise_some(5)
        async with open_alerts() as after:
            page = (await after.get("/v1/alerts")).json()

        assert len(page["items"]) == 5

    @pytest.mark.parametrize(
        "body",
        [{"alerts": []}, {"alerts": [{}]}, {"alerts": [alert_body(extra=1)]}, [], {"alerts": "CANARY"}],
    )
    async def test_refuses_what_is_no_batch(self, alerts: Alerts, body: object) -> None:
        token = alerts.users.fake.service_token(Scope.ALERTS_WRITE)

        response = await alerts.client.post(
            "/v1/internal/alerts",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
        )

        assert response.status_code == 422
        assert "CANARY" not in response.text

    async def test_users_and_other_services_may_not_raise_alerts(self, alerts: Alerts) -> None:
        user = await alerts.raise_alerts(alert_body(), token=alerts.users.fake.user_token())
        service = await alerts.raise_alerts(alert_body(), token=alerts.users.fake.service_token())

        assert user.status_code == service.status_code == 403

    async def test_a_body_may_hold_a_whole_batch_and_no_more(self, alerts: Alerts) -> None:
        assert len(await alerts.raise_some(256)) == 256

        response = await alerts.raise_alerts(*(alert_body(alert_id=f"alr_{n}") for n in range(257)))

        assert response.status_code == 422


class TestReading:
    async def test_pages_are_newest_first_without_gap_or_repeat(self, alerts: Alerts) -> None:
        ids = await alerts.raise_some(7)
        seen: list[str] = []
        path = "/v1/alerts?limit=3"

        while True:
            page = (await alerts.get(path)).json()
            seen += [item["alert"]["alert_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            path = f"/v1/alerts?limit=3&cursor={page['next_cursor']}"

        assert seen == ids[::-1]

    async def test_another_institutions_alerts_do_not_exist(self, alerts: Alerts) -> None:
        await alerts.raise_alerts(alert_body())

        one = await alerts.get("/v1/alerts/alr_1", institution=OTHER)
        page = await alerts.get("/v1/alerts", institution=OTHER)

        assert one.status_code == 404
        assert page.json()["items"] == []

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("outcome=review", ["alr_2"]),
            ("policy_outcome=decline", ["alr_1"]),
            ("since=2020-01-01T00:00:00Z", ["alr_2", "alr_1"]),
            ("until=2020-01-01T00:00:00Z", []),
            ("mail=dead_letter", []),
        ],
    )
    async def test_can_be_filtered(self, alerts: Alerts, query: str, expected: list[str]) -> None:
        await alerts.raise_alerts(
            alert_body(), alert_body(alert_id="alr_2", outcome="review", policy_outcome="review")
        )

        page = (await alerts.get(f"/v1/alerts?{query}")).json()

        assert [item["alert"]["alert_id"] for item in page["items"]] == expected

    @pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "outcome=maybe", "mail=lost"])
    async def test_refuses_odd_queries(self, alerts: Alerts, query: str) -> None:
        assert (await alerts.get(f"/v1/alerts?{query}")).status_code == 422

    async def test_needs_a_token(self, alerts: Alerts) -> None:
        assert (await alerts.client.get("/v1/alerts")).status_code == 401
