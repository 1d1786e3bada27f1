"""Notices: taken once each, mailed like alerts, their secrets forgotten as soon as they are of no use."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.contracts.tokens import Scope
from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts, OpenAlerts
from tests.mail_server import MailServer
from tests.notice_factories import TOKEN, notice_body
from tests.waiting import eventually

PAST = "2026-11-02T13:03:23+00:00"


class Database:
    """What alert_service has written down."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.db"

    def rows(self, query: str) -> Sequence[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(query).fetchall()

    async def until_state(self, state: str, *, notice_id: str = "ntc_1") -> None:
        async def has_state() -> bool:
            query = f"SELECT state FROM mails WHERE notice_id = '{notice_id}'"  # noqa: S608 - our own ids
            return self.rows(query) == [(state,)]

        await eventually(has_state)

    @property
    def secrets(self) -> list[str | None]:
        return [row[0] for row in self.rows("SELECT secret FROM notices ORDER BY notice_id")]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


class TestAccepting:
    async def test_a_notice_is_mailed_to_those_it_names_and_to_nobody_else(
        self, alerts: Alerts, mails: MailServer, database: Database
    ) -> None:
        response = await alerts.send_notices(notice_body())

        await mails.until(len)
        await database.until_state("delivered")
        assert response.status_code == 202
        assert response.json() == {"accepted": 1, "repeated": 0}
        (received,) = mails.received
        assert received.recipients == ("ada@harbour.example",)
        assert received.message["Subject"] == "[Assay] Choose a new password"
        assert "Test Bank" in received.text

    async def test_one_that_names_nobody_goes_to_the_admins(self, alerts: Alerts, mails: MailServer) -> None:
        alerts.users.fake.recipients["ins_test"] = ["a@example.org", "b@example.org"]

        await alerts.send_notices(
            notice_body(kind="quota", recipients=[], secret=None, facts={"percent": "80"}),
            sender="ai_service",
        )

        await mails.until(len)
        (received,) = mails.received
        assert sorted(received.recipients) == ["a@example.org", "b@example.org"]
        assert received.message["Subject"] == "[Assay] 80% of the decisions of this month are used"

    async def test_a_repeat_is_counted_and_mailed_once(
        self, alerts: Alerts, mails: MailServer, database: Database
    ) -> None:
        await alerts.send_notices(notice_body())
        await database.until_state("delivered")

        again = await alerts.send_notices(notice_body(), notice_body(notice_id="ntc_2"))
        await database.until_state("delivered", notice_id="ntc_2")

        assert again.json() == {"accepted": 1, "repeated": 1}
        assert len(mails.received) == 2

    async def test_many_at_once_are_new_once_each(self, alerts: Alerts) -> None:
        answers = await asyncio.gather(
            *(alerts.send_notices(notice_body(), notice_body(notice_id="ntc_2")) for _ in range(10))
        )

        assert sum(answer.json()["accepted"] for answer in answers) == 2

    @pytest.mark.parametrize(
        "changes", [{"secret": "another"}, {"recipients": ["eve@elsewhere.example"]}, {"facts": {}}]
    )
    async def test_a_repeat_with_another_content_is_refused_with_all_that_came_with_it(
        self, alerts: Alerts, database: Database, changes: dict[str, Any]
    ) -> None:
        await alerts.send_notices(notice_body())
        await database.until_state("delivered")

        refused = await alerts.send_notices(notice_body(notice_id="ntc_0"), notice_body(**changes))

        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:assay:problem:notice-conflict"
        assert database.rows("SELECT notice_id FROM notices") == [("ntc_1",)]

    async def test_two_contents_in_one_batch_are_refused(self, alerts: Alerts, database: Database) -> None:
        refused = await alerts.send_notices(notice_body(), notice_body(secret="another"))

        assert refused.status_code == 409
        assert database.rows("SELECT * FROM notices") == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"facts": {"change": "one\r\nBcc: eve@elsewhere.example"}},
            {"recipients": ["a@b.example\r\nBcc: eve@elsewhere.example"]},
            {"secret": "two\nlines"},
            {"kind": "advertisement"},
            {"body": "anything"},
        ],
    )
    async def test_what_is_no_notice_is_refused_without_an_echo(
        self, alerts: Alerts, changes: dict[str, Any]
    ) -> None:
        refused = await alerts.send_notices(notice_body(**changes))

        assert refused.status_code == 422
        assert "eve" not in refused.text
        assert TOKEN not in refused.text

    async def test_only_services_that_may_can_send_one(self, alerts: Alerts) -> None:
        fake = alerts.users.fake
        unsuited = [fake.service_token(Scope.ALERTS_WRITE), fake.user_token(scopes=[Scope.NOTICES_WRITE])]

        answers = [await alerts.send_notices(notice_body(), token=token) for token in unsuited]
        nobody = await alerts.client.post("/v1/internal/notices", json={"notices": [notice_body()]})

        assert [answer.status_code for answer in (*answers, nobody)] == [403, 403, 401]

    @pytest.mark.parametrize(
        ("sender", "changes"),
        [
            ("ai_service", {"kind": "invitation", "recipients": [], "secret": None}),
            ("ai_service", {"kind": "quota", "recipients": [], "secret": TOKEN}),
            ("ai_service", {"kind": "quota", "secret": None}),
            ("user_service", {"kind": "quota", "recipients": [], "secret": None}),
            ("log_service", {"kind": "security_change", "secret": None}),
        ],
    )
    async def test_what_another_service_asks_for_is_refused_with_all_that_came_with_it(
        self, alerts: Alerts, database: Database, sender: str, changes: dict[str, Any]
    ) -> None:
        quota = notice_body(kind="quota", recipients=[], secret=None)
        its_own = quota if sender == "ai_service" else notice_body()
        wrong = notice_body(notice_id="ntc_2", **changes)

        refused = await alerts.send_notices(its_own, wrong, sender=sender)

        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:assay:problem:not-its-notice"
        assert database.rows("SELECT * FROM notices") == []


class TestSecret:
    async def test_is_in_the_mail_and_gone_from_the_database_once_that_is_out(
        self, alerts: Alerts, mails: MailServer, database: Database, tmp_path: Path
    ) -> None:
        await alerts.send_notices(notice_body())

        await database.until_state("delivered")

        assert TOKEN in mails.received[0].text
        assert database.secrets == [None]
        assert TOKEN not in str(database.rows("SELECT * FROM notices"))

    async def test_stays_while_somebody_still_has_to_get_it(
        self, alerts: Alerts, mails: MailServer, database: Database
    ) -> None:
        mails.rcpt_replies["bob@harbour.example"] = "451 greylisted"
        both = ["ada@harbour.example", "bob@harbour.example"]
        await alerts.send_notices(notice_body(recipients=both))
        await mails.until(len)
        before = database.secrets

        del mails.rcpt_replies["bob@harbour.example"]
        await database.until_state("delivered")

        assert before == [TOKEN]
        assert [received.recipients for received in mails.received] == [(both[0],), (both[1],)]
        assert all(TOKEN in received.text for received in mails.received)
        assert database.secrets == [None]

    async def test_is_forgotten_when_the_mail_is_refused_for_good(
        self, alerts: Alerts, mails: MailServer, database: Database
    ) -> None:
        mails.rcpt_replies["ada@harbour.example"] = "550 no such user"
        await alerts.send_notices(notice_body())

        await database.until_state("dead_letter")

        assert database.secrets == [None]
        assert database.rows("SELECT state, last_error FROM mail_recipients") == [
            ("dead_letter", "550 no such user")
        ]

    async def test_reaches_neither_log_nor_metrics_and_addresses_do_not_either(
        self,
        open_alerts: OpenAlerts,
        mails: MailServer,
        database: Database,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        mails.data_replies.append("451 later, ada@harbour.example")
        async with open_alerts(log_level="debug") as alerts:
            await alerts.send_notices(notice_body())
            await database.until_state("delivered")
            metrics = (await alerts.client.get("/metrics")).text
        logged = capsys.readouterr().out

        assert [each for each in ("pending", "delivered") if f'"state":"{each}"' not in logged] == []
        for text in (logged, metrics):
            assert TOKEN not in text
            assert "harbour" not in text
        assert 'assay_notices_accepted_total{kind="password_reset"}' in metrics


class TestExpiry:
    async def test_what_came_too_late_is_not_sent_and_that_is_written_down(
        self, alerts: Alerts, mails: MailServer, database: Database
    ) -> None:
        await alerts.send_notices(notice_body(expires_at=PAST), notice_body(notice_id="ntc_2"))

        await database.until_state("expired")
        await database.until_state("delivered", notice_id="ntc_2")

        assert len(mails.received) == 1
        assert database.secrets == [None, None]
        assert database.rows("SELECT last_error FROM mails WHERE state = 'expired'") == [
            ("it was of no use any more",)
        ]


class TestBesideAlerts:
    async def test_notices_that_wait_hold_up_no_alert_of_the_same_institution(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        mails.rcpt_replies["ada@harbour.example"] = "451 greylisted"
        for number in range(6):
            await alerts.send_notices(notice_body(notice_id=f"ntc_{number}"))

        await alerts.raise_alerts(alert_body())

        await alerts.until_state("alr_1", "delivered")
        assert mails.ids() == ["alr_1"]

    async def test_a_restart_forgets_nothing(
        self, open_alerts: OpenAlerts, mails: MailServer, database: Database
    ) -> None:
        mails.sender_reply = "451 later"
        async with open_alerts() as first:
            await first.send_notices(notice_body())
        mails.sender_reply = "250 OK"

        async with open_alerts():
            await database.until_state("delivered")

        assert TOKEN in mails.received[0].text


class TestLink:
    async def test_leads_to_where_the_token_is_used(self, open_alerts: OpenAlerts, mails: MailServer) -> None:
        async with open_alerts(account_link="https://assay.example/account#{token}") as alerts:
            await alerts.send_notices(notice_body(secret="a/b.c"))
            await mails.until(len)

        assert "https://assay.example/account#a%2Fb.c" in mails.received[0].text
