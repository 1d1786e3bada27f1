from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from alert_service.notifications.message import build_message, subject
from common.contracts.alerts import AlertRequest
from tests.alert_factories import make_alert

LIVE = {"institution_id": "ins_live", "mode": "live", "base_currency": "EUR"}


def written(*alerts: AlertRequest, institution_name: str = "Test Bank") -> EmailMessage:
    return build_message(
        alerts,
        institution_name=institution_name,
        message_id="<mail_1@example.org>",
        sender="Assay <assay@example.org>",
        recipients=["a@example.org", "b@example.org"],
        link="https://assay.example/decisions/{decision_id}",
        written_at=datetime(2026, 11, 2, 13, tzinfo=UTC),
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
