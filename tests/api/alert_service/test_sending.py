import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from alert_service.settings import SmtpSecurity
from common.contracts.institutions import Institution, InstitutionMode
from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts, Certificate, OpenAlerts
from tests.mail_server import MailServer, mail_server
from tests.servers import free_port
from tests.waiting import eventually

A, B = "a@example.org", "b@example.org"


def bank(institution_id: str) -> Institution:
    return Institution(institution_id=institution_id, mode=InstitutionMode.LIVE, base_currency="EUR")


@asynccontextmanager
async def greeting_with(greeting: bytes | None, *, port: int) -> AsyncIterator[None]:
    """Serve something that says `greeting` and nothing more; None cuts the connection."""
    release = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greeting is not None:
            writer.write(greeting)
            await release.wait()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield
        release.set()


class TestManyAtOnce:
    async def test_at_least_four_mails_are_sent_at_the_same_time(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        gate = asyncio.Event()
        names = [f"ins_{number}" for number in range(4)]
        for name in names:
            alerts.users.fake.recipients[name] = [f"{name}@example.org"]
            mails.held[f"{name}@example.org"] = gate
            await alerts.raise_for(name, f"alr_{name}")

        await mails.until(lambda _received: len(mails.waiting) == 4)
        gate.set()

        await mails.until(lambda received: len(received) == 4)

    async def test_an_institution_whose_server_hangs_holds_up_nobody_else(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        never = asyncio.Event()
        mails.held["slow@example.org"] = never
        async with open_alerts(mail_max_alerts=1, mail_concurrency=4, graceful_shutdown_s=1) as alerts:
            alerts.users.fake.recipients["ins_slow"] = ["slow@example.org"]
            await alerts.raise_for("ins_slow", *(f"alr_slow_{number}" for number in range(40)))
            await mails.until(lambda _received: mails.waiting)

            await alerts.raise_for("ins_quick", "alr_quick")
            await mails.until(lambda _received: "alr_quick" in mails.ids())

            assert len(mails.received) == 1
            assert len(mails.waiting) < 4
            never.set()

    async def test_what_one_institution_left_behind_does_not_starve_another(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        mails.rcpt_replies["full@example.org"] = "452 mailbox full"
        async with open_alerts(mail_max_alerts=1, mail_concurrency=1) as alerts:
            alerts.users.fake.recipients["ins_full"] = ["full@example.org", A]
            for number in range(20):
                await alerts.raise_for("ins_full", f"alr_full_{number}")
            await mails.until(lambda _received: mails.ids())

            await alerts.raise_for("ins_quick", "alr_quick")

            await mails.until(lambda _received: "alr_quick" in mails.ids())

    async def test_each_alert_is_told_once_while_alerts_keep_coming(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        ids = [f"alr_{number:03}" for number in range(300)]

        await asyncio.gather(
            *(
                alerts.raise_for(f"ins_{start % 3}", *ids[start : start + 10])
                for start in range(0, len(ids), 10)
            )
        )
        await mails.until(lambda _received: len(mails.ids()) >= len(ids))

        assert Counter(mails.ids()) == Counter(ids)


class TestMailServerAway:
    async def test_is_probed_with_one_mail_at_a_time_and_then_gets_all(self, open_alerts: OpenAlerts) -> None:
        port = free_port()
        async with open_alerts(smtp_port=port, mail_collect_s=0) as alerts:
            ids = [f"alr_{number}" for number in range(12)]
            for each in ids:
                await alerts.raise_for(f"ins_{each}", each)
            await eventually(lambda: _waits(alerts, "assay_mail_server_reachable", 0.0))

            async with mail_server(port=port) as late:
                await late.until(lambda _received: sorted(late.ids()) == sorted(ids))

                assert late.greeted == 12
                assert await alerts.metric("assay_mail_server_reachable") == 1.0

    async def test_alerts_of_an_outage_share_few_mails(self, open_alerts: OpenAlerts) -> None:
        port = free_port()
        async with open_alerts(smtp_port=port, mail_collect_s=0) as alerts:
            ids = [f"alr_{number}" for number in range(30)]
            for each in ids:
                await alerts.raise_for("ins_one", each)

            async with mail_server(port=port) as late:
                await late.until(lambda _received: sorted(late.ids()) == sorted(ids))

                assert len(late.received) <= 6

    async def test_a_sender_it_refuses_is_our_set_up_and_loses_nothing(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        mails.sender_reply = "550 relaying denied"
        await alerts.raise_alerts(alert_body())
        found = await alerts.until_failed("alr_1", said="550 relaying denied")

        mails.sender_reply = "250 OK"
        await alerts.until_state("alr_1", "delivered")

        assert found["state"] == "pending"

    @pytest.mark.parametrize(
        ("greeting", "said"),
        [
            (b"", "the mail server took too long"),
            (b"554 go away\r\n", "554 go away"),
            (b"garbage\r\n", "what answers is not a mail server"),
            (None, "the mail server does not answer"),
        ],
    )
    async def test_whatever_answers_at_its_address_loses_no_mail(
        self, open_alerts: OpenAlerts, mails: MailServer, greeting: bytes | None, said: str
    ) -> None:
        port = free_port()
        async with open_alerts(smtp_port=port, smtp_timeout_s=0.3) as alerts:
            async with greeting_with(greeting, port=port):
                await alerts.raise_alerts(alert_body())
                found = await alerts.until_failed("alr_1")

            async with mail_server(port=port) as late:
                await late.until(len)

        assert found["last_error"] == said
        assert found["state"] == "pending"

    async def test_contents_it_refuses_for_good_are_a_dead_letter(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        before = await alerts.metric('assay_mails_total{state="dead_letter"}')
        mails.data_replies.append("554 looks like spam")

        await alerts.raise_alerts(alert_body())

        found = await alerts.until_state("alr_1", "dead_letter")
        assert found["last_error"] == "554 looks like spam"
        assert await alerts.metric('assay_mails_total{state="dead_letter"}') == before + 1


class TestWhoGetsIt:
    async def test_who_is_no_admin_any_more_is_not_asked_again_and_a_new_one_is(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        mails.rcpt_replies[A] = "451 later"
        async with open_alerts(recipients_max_age_s=0) as alerts:
            alerts.users.fake.recipients["ins_test"] = [A]
            await alerts.raise_alerts(alert_body())
            await alerts.until_failed("alr_1")

            alerts.users.fake.recipients["ins_test"] = [B]
            found = await alerts.until_state("alr_1", "delivered")

        assert [each["email"] for each in found["recipients"]] == [B]
        assert [received.recipients for received in mails.received] == [(B,)]

    async def test_an_address_refused_for_now_too_long_is_given_up(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        mails.rcpt_replies[A] = "452 mailbox full"
        async with open_alerts(mail_give_up_h=1e-7) as alerts:
            alerts.users.fake.recipients["ins_test"] = [A, B]
            await alerts.raise_alerts(alert_body())

            found = await alerts.until_state("alr_1", "delivered")

        states = {each["email"]: each["state"] for each in found["recipients"]}
        assert states == {A: "dead_letter", B: "delivered"}

    async def test_what_is_no_address_keeps_nobody_from_getting_it(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        alerts.users.fake.recipients["ins_test"] = [A, "b@example.org\r\nBcc: evil@example.org"]
        await alerts.raise_alerts(alert_body())

        await alerts.until_state("alr_1", "delivered")

        assert [received.recipients for received in mails.received] == [(A,)]
        assert "evil" not in mails.received[0].message.as_string()

    @pytest.mark.parametrize("unicode", [True, False])
    async def test_an_address_beyond_ascii_is_used_where_the_server_takes_it(
        self, open_alerts: OpenAlerts, *, unicode: bool
    ) -> None:
        async with (
            mail_server(enable_SMTPUTF8=unicode, decode_data=False) as server,
            open_alerts(smtp_port=server.port) as alerts,
        ):
            alerts.users.fake.recipients["ins_test"] = [A, "jörg@example.org"]
            await alerts.raise_alerts(alert_body())

            found = await alerts.until_state("alr_1", "delivered")

        states = {each["email"]: each["state"] for each in found["recipients"]}
        assert states == {A: "delivered", "jörg@example.org": "delivered" if unicode else "dead_letter"}

    async def test_an_odd_institution_id_reaches_no_other_address_of_user_service(
        self, alerts: Alerts, mails: MailServer
    ) -> None:
        odd = "../institutions/ins_a/recipients?x="
        alerts.users.fake.recipients["ins_a"] = [A]

        await alerts.raise_for(odd, "alr_odd")
        await alerts.raise_for("ins_b", "alr_b")
        await mails.until(lambda _received: "alr_b" in mails.ids())

        assert A not in [address for received in mails.received for address in received.recipients]


class TestSecureConnections:
    @pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
    async def test_mails_go_out_after_a_login_over_tls(
        self, open_alerts: OpenAlerts, certificate: Certificate, security: SmtpSecurity
    ) -> None:
        server = MailServer()
        implicit = security is SmtpSecurity.TLS
        async with (
            mail_server(
                server=server,
                certificate=certificate.context,
                implicit_tls=implicit,
                authenticator=server.takes_login,
                auth_required=not implicit,  # aiosmtpd only knows of TLS that it started itself
                auth_require_tls=not implicit,
            ),
            open_alerts(
                smtp_port=server.port,
                smtp_security=security,
                smtp_ca_file=str(certificate.file),
                smtp_username="assay",
                smtp_password="a password",
            ) as alerts,
        ):
            await alerts.raise_alerts(alert_body())
            await alerts.until_state("alr_1", "delivered")

        assert server.logins == [("assay", "a password")]

    async def test_a_login_that_is_refused_waits_for_the_operator_and_tells_no_password(
        self, open_alerts: OpenAlerts, certificate: Certificate, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server = MailServer()
        async with (
            mail_server(
                server=server,
                certificate=certificate.context,
                authenticator=server.takes_login,
                auth_required=True,
            ),
            open_alerts(
                smtp_port=server.port,
                smtp_security=SmtpSecurity.STARTTLS,
                smtp_ca_file=str(certificate.file),
                smtp_username="assay",
                smtp_password="wrong",
                log_level="info",
            ) as alerts,
        ):
            await alerts.raise_alerts(alert_body())
            found = await alerts.until_failed("alr_1")

        assert found["state"] == "pending"
        assert found["last_error"].startswith("535")
        assert server.received == []
        assert "wrong" not in capsys.readouterr().out


class TestLogLines:
    async def test_hold_request_ids_and_no_address(
        self, open_alerts: OpenAlerts, mails: MailServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mails.rcpt_replies[A] = f"550 <{A}> unknown"
        async with open_alerts(log_level="info") as alerts:
            alerts.users.fake.recipients["ins_test"] = [A, B]
            await alerts.raise_alerts(alert_body(request_id="req_of_the_payment"))
            await alerts.until_state("alr_1", "delivered")

        lines = capsys.readouterr().out.splitlines()
        told = [line for line in lines if "req_of_the_payment" in line]
        assert [any(event in line for line in told) for event in ("alerts.accepted", "mail.tried")] == [
            True,
            True,
        ]
        assert not [line for line in lines if "@example.org" in line]


async def _waits(alerts: Alerts, sample: str, value: float) -> bool:
    return await alerts.metric(sample) == value
