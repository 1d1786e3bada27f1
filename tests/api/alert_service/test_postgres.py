import asyncio
from collections import Counter

import psycopg
from pydantic import SecretStr

from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import OpenAlerts
from tests.mail_server import MailServer
from tests.notice_factories import TOKEN, notice_body
from tests.postgres import seeing_all
from tests.waiting import eventually

A, B = "a@example.org", "b@example.org"


class TestOverPostgres:
    async def test_alerts_are_taken_told_and_shown_as_over_sqlite(
        self, open_alerts: OpenAlerts, mails: MailServer, postgres_url: str
    ) -> None:
        async with open_alerts(database_url=postgres_url) as alerts:
            alerts.users.fake.recipients["ins_test"] = [A, B]
            mails.rcpt_replies[B] = "550 no such user"
            ids = await alerts.raise_some(60)
            again = await alerts.raise_alerts(alert_body(alert_id=ids[0]), alert_body())

            found = await alerts.until_state(ids[0], "delivered")
            await alerts.until_state("alr_1", "delivered")
            page = (await alerts.get("/v1/alerts?limit=200&mail=delivered")).json()

        assert again.json() == {"accepted": 1, "repeated": 1}
        assert {each["email"]: each["state"] for each in found["recipients"]} == {
            A: "delivered",
            B: "dead_letter",
        }
        assert Counter(mails.ids()) == Counter([*ids, "alr_1"])
        assert len(page["items"]) == 61

    async def test_two_services_on_one_database_never_send_the_same_mail(
        self, open_alerts: OpenAlerts, mails: MailServer, postgres_url: str
    ) -> None:
        ids = [f"alr_{number:03}" for number in range(105)]
        changes = {
            "database_url": SecretStr(postgres_url),
            "mail_collect_s": 0,
            "mail_max_alerts": 2,
            "smtp_timeout_s": 60,  # a mail whose acceptance comes too late goes out again, as it must
        }
        async with open_alerts(**changes) as one, open_alerts(**changes) as other:
            await asyncio.gather(
                *(
                    service.raise_for(f"ins_{start % 7}", *ids[start : start + 5])
                    for start in range(0, len(ids), 5)
                    for service in (one, other)
                )
            )
            await mails.until(lambda _received: set(mails.ids()) == set(ids))

        assert Counter(mails.ids()) == Counter(ids)

    async def test_a_mail_that_waits_goes_out_once_the_mail_server_takes_it(
        self, open_alerts: OpenAlerts, mails: MailServer, postgres_url: str
    ) -> None:
        mails.data_replies += ["451 later", "drop"]
        async with open_alerts(database_url=postgres_url) as alerts:
            await alerts.raise_alerts(alert_body())

            found = await alerts.until_state("alr_1", "delivered")

        assert found["attempts"] == 3
        assert len({received.message["Message-ID"] for received in mails.received}) == 1

    async def test_a_notice_is_taken_mailed_and_its_secret_forgotten(
        self, open_alerts: OpenAlerts, mails: MailServer, postgres_url: str
    ) -> None:
        async with open_alerts(database_url=postgres_url) as alerts:
            first = await alerts.send_notices(notice_body(), notice_body(notice_id="ntc_2"))
            await mails.until(lambda received: len(received) == 2)
            repeated = await alerts.send_notices(notice_body())
            other = await alerts.send_notices(notice_body(secret="another"))

            async def is_forgotten() -> bool:
                return await _secrets(postgres_url) == [None, None]

            await eventually(is_forgotten)

        assert first.json() == {"accepted": 2, "repeated": 0}
        assert repeated.json() == {"accepted": 0, "repeated": 1}
        assert other.status_code == 409
        assert all(TOKEN in received.text for received in mails.received)

    async def test_two_services_take_the_same_notice_once(
        self, open_alerts: OpenAlerts, mails: MailServer, postgres_url: str
    ) -> None:
        bodies = [notice_body(notice_id=f"ntc_{number}") for number in range(20)]
        async with (
            open_alerts(database_url=postgres_url) as one,
            open_alerts(database_url=postgres_url) as other,
        ):
            answers = await asyncio.gather(
                *(service.send_notices(body) for body in bodies for service in (one, other))
            )
            again = await other.send_notices(*bodies)
            await mails.until(lambda received: len(received) >= len(bodies))

        assert {answer.status_code for answer in answers} <= {202, 503}
        assert sum(answer.json().get("accepted", 0) for answer in answers) == len(bodies)
        assert again.json() == {"accepted": 0, "repeated": len(bodies)}
        assert len(mails.received) == len(bodies)


async def _secrets(url: str) -> list[str | None]:
    def read() -> list[str | None]:
        with psycopg.connect(seeing_all(url)) as connection:
            return [row[0] for row in connection.execute("SELECT secret FROM notices")]

    return await asyncio.to_thread(read)
