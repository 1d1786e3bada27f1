from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from alert_service.notifications.envelope import Envelope
from alert_service.notifications.notice_message import build_notice
from common.contracts.notices import Notice, NoticeKind
from tests.notice_factories import TOKEN, make_notice


def written(notice: Notice, *, institution_name: str = "Test Bank", link: str = "") -> EmailMessage:
    envelope = Envelope(
        message_id="<mail_1@example.org>",
        sender="Assay <assay@example.org>",
        recipients=notice.recipients or ("admin@example.org",),
        written_at=datetime(2026, 11, 2, 13, tzinfo=UTC),
    )
    return build_notice(notice, envelope, institution_name=institution_name, link=link)


def parts(message: EmailMessage) -> tuple[str, str]:
    parsed = message_from_bytes(message.as_bytes(), policy=default)
    text, html = parsed.get_body(["plain"]), parsed.get_body(["html"])
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


SAID = {
    NoticeKind.INVITATION: (
        {"role": "analyst", "invited_by_name": "Ada Okafor"},
        "You are invited to Test Bank",
        ["Ada Okafor invites you", "Your role will be: analyst.", "without the token no account can be used"],
    ),
    NoticeKind.PASSWORD_RESET: (
        {"ip_address": "203.0.113.7"},
        "Choose a new password",
        ["Somebody asked for a new password", "IP address", "203.0.113.7", "ignore this mail"],
    ),
    NoticeKind.ACCOUNT_LOCKED: (
        {"locked_until": "2026-11-02 14:00 UTC"},
        "Your account is locked for a while",
        ["Nobody can log in to it until 2026-11-02 14:00 UTC.", "somebody may be guessing your password"],
    ),
    NoticeKind.SECURITY_CHANGE: (
        {"change": "the second factor was removed"},
        "A change to the security of your account",
        ["At Test Bank: the second factor was removed.", "ask for a new password now"],
    ),
    NoticeKind.QUOTA: (
        {"percent": "90", "decisions": "9000", "quota": "10000", "month": "2026-11", "policy": "block"},
        "90% of the decisions of this month are used",
        ["90% of the decisions that its tier has", "9000", "10000", "further transactions are refused"],
    ),
}


class TestNotice:
    @pytest.mark.parametrize("kind", NoticeKind)
    def test_says_the_same_in_text_and_html(self, kind: NoticeKind) -> None:
        facts, subject, told = SAID[kind]
        message = written(make_notice(kind=kind, facts=facts, secret=None))

        assert message["Subject"] == f"[Assay] {subject}"
        for part in parts(message):
            words = " ".join(part.split())
            assert [each for each in (*told, subject, "ntc_1", "Test Bank") if each not in words] == []
            assert "Token" not in words

    @pytest.mark.parametrize("kind", NoticeKind)
    def test_needs_no_fact(self, kind: NoticeKind) -> None:
        for part in parts(written(make_notice(kind=kind, facts={}, secret=None, recipients=[]))):
            assert "None" not in part
            assert "You get this because you are an admin of Test Bank" in part

    def test_shows_the_token_where_it_goes_and_until_when(self) -> None:
        for part in parts(written(make_notice())):
            words = " ".join(part.split())
            assert TOKEN in words
            assert "POST /v1/auth/" in words
            assert "2999-11-02 13:03 UTC" in words

    def test_shows_a_link_instead_where_there_is_one(self) -> None:
        text, html = parts(written(make_notice(), link="https://assay.example/#{token}"))

        for part in (text, html):
            assert f"https://assay.example/#{TOKEN}" in part
            assert "POST" not in part
        assert f'href="https://assay.example/#{TOKEN}"' in html

    def test_marks_a_sandbox_and_takes_the_name_that_the_notice_says(self) -> None:
        facts = {"institution_mode": "sandbox", "institution_name": "Harbour Payments"}

        message = written(make_notice(facts=facts))

        assert message["Subject"] == "[Assay] [sandbox] Choose a new password"
        for part in parts(message):
            assert "sandbox: no real money" in part
            assert "Harbour Payments" in part
            assert "Test Bank" not in part

    def test_facts_are_words_and_never_markup_or_lines(self) -> None:
        facts = {"change": "<script>alert(1)</script> & more", "<b>name</b>": "<img src=x>"}

        text, html = parts(
            written(make_notice(kind="security_change", facts=facts), institution_name="<i>Bank</i>\u2028x")
        )

        for markup in ("<script>", "<img src=x", "<b>name", "<i>Bank"):
            assert markup not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
        assert "<script>alert(1)</script> & more" in text
        assert "\u2028" not in text

    def test_no_fact_reaches_a_header_but_as_one_line_of_the_subject(self) -> None:
        message = written(
            make_notice(kind="invitation"), institution_name="Bank\r\nBcc: eve@elsewhere.example"
        )

        parsed = message_from_bytes(message.as_bytes(), policy=default)

        assert parsed["Bcc"] is None
        assert parsed["Subject"] == "[Assay] You are invited to Bank Bcc: eve@elsewhere.example"

    def test_the_same_notice_gives_the_same_bytes(self) -> None:
        assert written(make_notice()).as_bytes() == written(make_notice()).as_bytes()

    def test_a_secret_does_not_show_when_a_notice_is_printed(self) -> None:
        assert TOKEN not in repr(make_notice())


class TestQuota:
    def test_a_quota_that_is_used_up_is_said_in_red(self) -> None:
        facts = {"percent": "100"}

        _, html = parts(written(make_notice(kind="quota", facts=facts, secret=None)))

        assert "#a3262a" in html
