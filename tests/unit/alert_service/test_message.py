from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from alert_service.notifications.envelope import Envelope
from alert_service.notifications.message import build_message, subject
from common.contracts.alerts import AlertRequest
from tests.alert_factories import make_alert

LIVE = {"institution_id": "ins_live", "mode": "live", "base_currency": "EUR"}


def written(*alerts: AlertRequest, institution_name: str = "Test Bank") -> EmailMessage:
    return build(*alerts, institution_name=institution_name)


def build(
    *alerts: AlertRequest,
    institution_name: str = "Test Bank",
    recipients: Sequence[str] = ("a@example.org", "b@example.org"),
) -> EmailMessage:
    return build_message(
        alerts,
        Envelope(
            message_id="<mail_1@example.org>",
            sender="Assay <assay@example.org>",
            recipients=recipients,
            written_at=datetime(2026, 11, 2, 13, tzinfo=UTC),
        ),
        institution_name=institution_name,
        link="https://assay.example/decisions/{decision_id}",
    )


def parts(message: EmailMessage) -> tuple[str, str]:
    parsed = message_from_bytes(message.as_bytes(), policy=default)
    text, html = parsed.get_body(["plain"]), parsed.get_body(["html"])
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


class TestSubject:
    def test_says_what_happened(self) -> None:
        assert subject([make_alert(institution=LIVE)]) == "[Assay] Payment declined: EUR 249.90, risk 92"

    def test_marks_a_sandbox_and_counts_several(self) -> None:
        assert subject([make_alert(), make_alert()]) == "[Assay] [sandbox] 2 payments need attention"

    def test_does_not_claim_what_observe_mode_did_not_do(self) -> None:
        found = subject([make_alert(outcome="approve", institution=LIVE)])

        assert found == "[Assay] Payment would have been declined: EUR 249.90, risk 92"


class TestMessage:
    def test_tells_the_same_in_text_and_html(self) -> None:
        told = [
            "Payment declined",
            "EUR 249.90",
            "92 of 100 (high)",
            "91.7%",
            "customer-1",
            "tx-1",
            "dec_1",
            "alr_1",
        ]
        told += ["Many small payments", "CARD_TESTING", "https://assay.example/decisions/dec_1", "Test Bank"]

        for part in parts(written(make_alert())):
            assert [words for words in told if words not in part] == []

    def test_lists_every_alert(self) -> None:
        alerts = [make_alert(alert_id=f"alr_{number}") for number in range(50)]

        for part in parts(written(*alerts)):
            assert all(f"alr_{number}" in part for number in range(50))

    def test_says_that_nothing_was_stopped_in_observe_mode(self) -> None:
        for part in parts(written(make_alert(outcome="approve"))):
            assert "Nothing was stopped" in part
        for part in parts(written(make_alert())):
            assert "Nothing was stopped" not in part

    def test_escapes_what_payers_and_institutions_wrote(self) -> None:
        alert = make_alert(customer_id="<script>alert(1)</script>", transaction_id='"><img src=x>')

        _, html = parts(written(alert, institution_name="<b>Bank</b>"))

        assert "<script" not in html
        assert "<img" not in html
        assert "<b>Bank" not in html
        assert "&lt;script&gt;" in html

    def test_headers_hold_nothing_from_outside(self) -> None:
        alert = make_alert(customer_id="x Bcc: evil@example.org", transaction_id="y")

        message = written(alert)

        assert set(message.keys()) == {
            "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
        }  # fmt: skip
        assert "evil" not in str(message["Subject"])

    def test_is_the_same_message_on_every_try(self) -> None:
        first, second = written(make_alert()), written(make_alert())

        assert first["Message-ID"] == second["Message-ID"] == "<mail_1@example.org>"
        assert first["Date"] == second["Date"]

    def test_shows_an_unknown_country_and_no_reasons(self) -> None:
        for part in parts(written(make_alert(country=None, reasons=[]))):
            assert "unknown" in part
            assert "Why" not in part

    def test_counts_what_happened_in_a_mail_with_several(self) -> None:
        alerts = [make_alert(), make_alert(outcome="review", policy_outcome="review"), make_alert()]

        for part in parts(written(*alerts)):
            assert "2 declined, 1 held for review" in part

    @pytest.mark.parametrize(
        ("amount", "currency", "shown"),
        [
            ("249.9", "EUR", "EUR 249.90"),
            ("1E+3", "JPY", "JPY 1000"),
            ("5", "KWD", "KWD 5.000"),
            ("0.00012345", "XXX", "XXX 0.00012345"),
        ],
    )
    def test_shows_money_with_the_decimals_of_its_currency(
        self, amount: str, currency: str, shown: str
    ) -> None:
        alert = make_alert(amount=amount, currency=currency, institution=LIVE)

        assert subject([alert]) == f"[Assay] Payment declined: {shown}, risk 92"
        assert shown in parts(written(alert))[0]

    def test_no_line_break_from_outside_gets_into_a_header_or_makes_a_line(self) -> None:
        alert = make_alert(
            currency="EUR\r\nBcc: evil@example.org",
            transaction_type="payment\nX-Evil: 1",
            country="D\u2028E",
            reasons=[{"code": "A", "message": "one\r\ntwo", "contribution": 1, "source": "rule"}],
        )

        message = written(alert, institution_name="Bank\r\nBcc: evil@example.org")

        assert "Bcc" not in message
        assert "X-Evil" not in message
        assert "one two" in parts(message)[0]

    def test_addresses_beyond_ascii_stay_out_of_the_header(self) -> None:
        def to(*recipients: str) -> str:
            return str(build(make_alert(), recipients=recipients)["To"])

        assert to("jörg@example.org", "a@example.org") == "a@example.org"
        assert to("jörg@example.org") == "undisclosed-recipients:;"

    def test_is_the_same_to_the_byte_on_every_try(self) -> None:
        assert written(make_alert()).as_bytes() == written(make_alert()).as_bytes()

    def test_is_only_called_sandbox_when_all_of_it_is(self) -> None:
        assert "[sandbox]" not in subject([make_alert(), make_alert(institution=LIVE)])

    def test_link_holds_the_id_as_one_part_of_a_path(self) -> None:
        text, _ = parts(written(make_alert(decision_id="../admin?x=1&y")))

        assert "https://assay.example/decisions/..%2Fadmin%3Fx%3D1%26y" in text

    def test_writes_the_time_as_the_payer_saw_it_with_its_zone(self) -> None:
        for part in parts(written(make_alert(event_time="2026-11-02T14:03:22.5+01:00"))):
            assert "2026-11-02 14:03:22 +01:00" in part

    def test_breaks_no_word(self) -> None:
        _, html = parts(written(make_alert()))

        assert "break-all" not in html

    def test_html_is_well_formed(self) -> None:
        class Tags(HTMLParser):
            opened: ClassVar[list[str]] = []

            def handle_starttag(self, tag: str, attrs: object) -> None:
                if tag not in {"meta", "br"}:
                    self.opened.append(tag)

            def handle_endtag(self, tag: str) -> None:
                assert self.opened.pop() == tag

        _, html = parts(written(make_alert(), make_alert(outcome="approve")))

        Tags().feed(html)

        assert Tags.opened == []
        assert "<script" not in html
        assert "<img" not in html

    def test_every_line_is_short_enough_for_smtp(self) -> None:
        alert = make_alert(
            reasons=[{"code": "A", "message": "ä" * 3000, "contribution": 1, "source": "rule"}]
        )

        lines = written(alert).as_bytes().splitlines()

        assert max(map(len, lines)) < 998
        assert all(line.isascii() for line in lines)
