from itertools import count

from alert_service.settings import SmtpSecurity
from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts, Certificate, OpenAlerts
from tests.mail_server import MailServer, mail_server
from tests.servers import free_port

BOTH = ["a@example.org", "b@example.org"]


class TestMails:
    async def test_an_alert_reaches_the_admins(self, alerts: Alerts, mails: MailServer) -> None:
        alerts.users.fake.recipients["ins_test"] = BOTH
        await alerts.raise_alerts(alert_body())

        await mails.until(len)

        received = mails.received[0]
        assert sorted(received.recipients) == BOTH
        assert received.message["Subject"] == "[Assay] [sandbox] Payment declined: EUR 249.90, risk 92"
        assert "alr_1" in received.text
        notification = await alerts.until_state("alr_1", "delivered")
        assert notification["attempts"] == 1
        assert notification["delivered_at"] is not None
        assert [each["state"] for each in notification["recipients"]] == ["delivered"] * 2

    async def test_alerts_that_wait_together_share_a_mail_that_lists_every_id(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        ids = await alerts.raise_some(120)

        await mails.until(lambda _received: len(mails.ids()) >= 120)

        assert sorted(mails.ids()) == sorted(ids)
        assert len(mails.received) == 3

    async def test_institutions_never_share_a_mail(self, alerts: Alerts, mails: MailServer) -> None:
        alerts.users.fake.recipients.update({"ins_a": ["a@a.example"], "ins_b": ["b@b.example"]})
        for name in ("ins_a", "ins_b"):
            institution = {"institution_id": name, "mode": "live", "base_currency": "EUR"}
            await alerts.raise_alerts(alert_body(alert_id=f"alr_{name}", institution=institution))

        await mails.until(lambda received: len(received) == 2)

        told = {received.recipients: received.text for received in mails.received}
        assert "alr_ins_b" not in told[("a@a.example",)]
        assert "alr_ins_a" not in told[("b@b.example",)]


class TestTrouble:
    async def test_a_temporary_refusal_is_tried_again_with_the_same_message(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        mails.data_replies += ["451 later", "421 busy"]
        await alerts.raise_alerts(alert_body())

        notification = await alerts.until_state("alr_1", "delivered")

        assert notification["attempts"] == 3
        assert mails.ids() == ["alr_1"]

    async def test_one_refused_for_good_does_not_keep_the_other_from_getting_it(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        alerts.users.fake.recipients["ins_test"] = BOTH
        mails.rcpt_replies[BOTH[0]] = "550 no such user"
        await alerts.raise_alerts(alert_body())

        notification = await alerts.until_state("alr_1", "delivered")

        states = {each["email"]: each["state"] for each in notification["recipients"]}
        assert states == {BOTH[0]: "dead_letter", BOTH[1]: "delivered"}
        assert len(mails.received) == 1

    async def test_one_refused_for_now_is_tried_again_alone(self, alerts: Alerts, mails: MailServer) -> None:
        alerts.users.fake.recipients["ins_test"] = BOTH
        mails.rcpt_replies[BOTH[0]] = "451 greylisted"
        await alerts.raise_alerts(alert_body())
        await mails.until(len)

        del mails.rcpt_replies[BOTH[0]]
        await alerts.until_state("alr_1", "delivered")

        assert [received.recipients for received in mails.received] == [(BOTH[1],), (BOTH[0],)]
        assert len({received.message["Message-ID"] for received in mails.received}) == 1

    async def test_all_refused_for_good_is_a_dead_letter_that_can_be_found(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        mails.rcpt_replies["admin@example.org"] = "550 no such user"
        await alerts.raise_alerts(alert_body())

        notification = await alerts.until_state("alr_1", "dead_letter")

        assert notification["last_error"] == "550 no such user"
        assert len((await alerts.get("/v1/alerts?mail=dead_letter")).json()["items"]) == 1

    async def test_a_connection_cut_after_the_data_is_told_again_under_the_same_message_id(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        mails.data_replies.append("drop")
        await alerts.raise_alerts(alert_body())

        await alerts.until_state("alr_1", "delivered")

        assert len(mails.received) == 2
        assert len({received.message["Message-ID"] for received in mails.received}) == 1

    async def test_while_the_mail_server_is_away_nothing_is_lost_and_then_all_goes_out(
        self, open_alerts: OpenAlerts
    ) -> None:
        port, names = free_port(), count()
        async with open_alerts(smtp_port=port) as alerts:
            ids = [
                each for _ in range(5) for each in await alerts.raise_some(3, customer_id=f"c{next(names)}")
            ]
            await alerts.until_failed(ids[0])
            async with mail_server(port=port) as late:
                await late.until(lambda _received: set(late.ids()) == set(ids), timeout_s=40)

    async def test_a_mail_is_sent_after_a_restart(self, open_alerts: OpenAlerts, mails: MailServer) -> None:
        async with open_alerts(smtp_port=free_port()) as before:
            ids = await before.raise_some(4)
        async with open_alerts():
            await mails.until(lambda _received: set(mails.ids()) == set(ids), timeout_s=40)

        assert sorted(mails.ids()) == ids

    async def test_a_slow_institution_does_not_hold_up_another(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        alerts.users.fake.recipients.update(
            {"ins_slow": ["slow@example.org"], "ins_quick": ["q@example.org"]}
        )
        mails.rcpt_replies["slow@example.org"] = "451 later"
        for name in ("ins_slow", "ins_quick"):
            institution = {"institution_id": name, "mode": "live", "base_currency": "EUR"}
            await alerts.raise_alerts(alert_body(alert_id=f"alr_{name}", institution=institution))

        await mails.until(lambda _received: "alr_ins_quick" in mails.ids())

        assert mails.ids() == ["alr_ins_quick"]


class TestRecipients:
    async def test_the_last_copy_is_used_while_user_service_is_away(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        async with open_alerts(recipients_max_age_s=0) as alerts:
            await alerts.raise_alerts(alert_body())
            await mails.until(len)
            alerts.users.fake.recipients_status = 503
            await alerts.raise_alerts(alert_body(alert_id="alr_2"))

            await mails.until(lambda _received: "alr_2" in mails.ids())

    async def test_while_nobody_is_known_the_mail_waits(self, alerts: Alerts, mails: MailServer) -> None:
        alerts.users.fake.recipients["ins_test"] = []
        await alerts.raise_alerts(alert_body())
        await alerts.until_failed("alr_1")

        assert mails.received == []
        alerts.users.fake.recipients["ins_test"] = BOTH
        await alerts.until_state("alr_1", "delivered")


class TestSecurity:
    async def test_a_server_that_does_not_offer_starttls_gets_nothing(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        async with open_alerts(smtp_security=SmtpSecurity.STARTTLS) as alerts:
            await alerts.raise_alerts(alert_body())
            await alerts.until_failed("alr_1")

        assert mails.received == []

    async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
        self, open_alerts: OpenAlerts, certificate: Certificate
    ) -> None:
        async with (
            mail_server(certificate=certificate.context) as untrusted,
            open_alerts(smtp_security=SmtpSecurity.STARTTLS, smtp_port=untrusted.port) as alerts,
        ):
            await alerts.raise_alerts(alert_body())
            await alerts.until_failed("alr_1")

        assert untrusted.received == []
