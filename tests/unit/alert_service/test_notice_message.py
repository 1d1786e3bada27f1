import shlex
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html import unescape

import pytest

from alert_service.notifications.account_requests import AccountPlaces
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
    places = AccountPlaces(link, "https://users.assay.example/")
    return build_notice(notice, envelope, institution_name=institution_name, places=places)


def parts(message: EmailMessage) -> tuple[str, str]:
    parsed = message_from_bytes(message.as_bytes(), policy=default)
    text, html = parsed.get_body(["plain"]), parsed.get_body(["html"])
    assert text is not None
    assert html is not None
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")


SAID = {
    NoticeKind.REGISTRATION: (
        {},
        "Confirm that you registered an institution",
        [
            "Somebody registered an institution in Assay with your address",
            "then the institution is made and you run it",
            "without the token and that password nothing happens",
        ],
    ),
    NoticeKind.ADDRESS_IN_USE: (
        {},
        "Your address has an account already",
        [
            "It has an account of Test Bank already, so nothing was registered",
            "log in, or ask for a new password",
            "your account is as it was",
        ],
    ),
    NoticeKind.INVITED_ELSEWHERE: (
        {"role": "analyst", "invited_by_name": "Ada Okafor"},
        "You are invited to Assay, with another address",
        [
            '"Ada Okafor" invites you to work with "Test Bank" in Assay',
            "Your address has an account with another institution already",
            "give them another address of yours",
        ],
    ),
    NoticeKind.INVITATION: (
        {"role": "analyst", "invited_by_name": "Ada Okafor"},
        "You are invited to Assay",
        [
            '"Ada Okafor" invites you to work with "Test Bank"',
            "Your role will be: analyst.",
            "without the token no account can be used",
        ],
    ),
    NoticeKind.PASSWORD_RESET: (
        {"ip_address": "203.0.113.7"},
        "Choose a new password",
        ["Somebody asked for a new password", "IP address", "203.0.113.7", "ignore this mail"],
    ),
    NoticeKind.ACCOUNT_LOCKED: (
        {
            "locked_until": "2026-11-02T15:00:00+01:00",
            "locked_at": "from 203.0.113.7",
            "failures": "10",
            "last_address": "203.0.113.7",
        },
        "Your account is locked for a while",
        [
            "Nobody can log in to it from 203.0.113.7 until 2026-11-02 14:00 UTC.",
            "10 times, the last time from 203.0.113.7",
            "choosing it unlocks your account at once",
            "somebody may be guessing your password",
        ],
    ),
    NoticeKind.SECURITY_CHANGE: (
        {"change": "the second factor was removed"},
        "Your account: the second factor was removed",
        ["At Test Bank: the second factor was removed.", "ask for a new password now"],
    ),
    NoticeKind.QUOTA: (
        {"percent": "90", "decisions": "9000", "quota": "10000", "month": "2026-11", "policy": "block"},
        "90% of the decisions of this month are used",
        ["90% of the decisions that its tier has", "9000", "10000", "further transactions are refused"],
    ),
    NoticeKind.API_KEY: (
        {
            "change": "rotated",
            "key_name": "checkout",
            "key_prefix": "ask_live_0a1b2c3d",
            "key_id": "key_1",
            "scopes": "score:write, decisions:read",
            "by": "Ada Okafor (ada@harbour.example)",
            "works_until": "2026-11-03 13:03 UTC",
        },
        "API key rotated: checkout",
        [
            "Ada Okafor (ada@harbour.example) rotated the API key checkout (ask_live_0a1b2c3d...) of Test Bank.",
            "The key before it works until 2026-11-03 13:03 UTC.",
            "score:write, decisions:read",
            "end the key (DELETE /v1/api-keys/key_1)",
            "You get this because you are an admin of Test Bank",
        ],
    ),
    NoticeKind.APPROVAL_WAITING: (
        {
            "wanted": "make somebody an admin",
            "asked_by": "Ada Okafor (ada@harbour.example)",
            "email": "new@harbour.example",
            "until": "2026-11-05 13:03 UTC",
            "approval_id": "apr_1",
        },
        "Your decision is needed: make somebody an admin",
        [
            "Ada Okafor (ada@harbour.example) asks to make somebody an admin at Test Bank.",
            "Nothing is done unless somebody agrees by 2026-11-05 13:03 UTC.",
            "POST /v1/approvals/apr_1/approve",
            "new@harbour.example",
            "you are one of those who may decide on it",
        ],
    ),
    NoticeKind.APPROVAL_DECIDED: (
        {
            "wanted": "make somebody an admin",
            "decision": "refused",
            "decided_by": "Sam Obi (sam@harbour.example)",
            "approval_id": "apr_1",
        },
        "What you asked for was refused: make somebody an admin",
        [
            "You asked to make somebody an admin at Test Bank. Sam Obi (sam@harbour.example) refused it.",
            "apr_1",
            "If you did not ask for this, somebody else may be using your account",
        ],
    ),
    NoticeKind.ROLE_CHANGED: (
        {"role": "viewer", "role_before": "admin", "by": "Ada Okafor (ada@harbour.example)"},
        "Your role was changed",
        [
            "Ada Okafor (ada@harbour.example) changed your role at Test Bank. It is now: viewer.",
            "Role before",
            "Your sessions have ended.",
        ],
    ),
    NoticeKind.MEMBER_CHANGED: (
        {
            "member": "Grace Adeyemi (grace@harbour.example)",
            "change": "disabled",
            "by": "Ada Okafor (ada@harbour.example)",
            "api_keys": "2 go on working",
            "key_1": "checkout (ask_live_0a1b2c3d...), key_1",
            "key_2": "reports (ask_live_4e5f6a7b...), key_2",
        },
        "Grace Adeyemi (grace@harbour.example): disabled",
        [
            "At Test Bank, Grace Adeyemi (grace@harbour.example) was disabled by Ada Okafor (ada@harbour.example).",
            "API keys that Grace Adeyemi (grace@harbour.example) made, see below: 2 go on working.",
            "checkout (ask_live_0a1b2c3d...), key_1",
            "reports (ask_live_4e5f6a7b...), key_2",
            "do not end with whoever made them",
            "You get this because you are an admin of Test Bank",
        ],
    ),
    NoticeKind.SESSION_REUSED: (
        {"ip_address": "203.0.113.7"},
        "Somebody else may have used your session",
        [
            "was shown a second time",
            "IP address",
            "203.0.113.7",
            "Time",
            "2026-11-02 13:03 UTC",
            "choose a new password now",
        ],
    ),
}


class TestNotice:
    @pytest.mark.parametrize("kind", NoticeKind)
    def test_says_the_same_in_text_and_html(self, kind: NoticeKind) -> None:
        facts, subject, told = SAID[kind]
        message = written(make_notice(kind=kind, facts=facts, secret=None))

        assert message["Subject"] == f"[Assay] {subject}"
        for part in parts(message):
            words = " ".join(unescape(part).split())
            assert [each for each in (*told, subject, "ntc_1", "Test Bank") if each not in words] == []
            assert "The token works once" not in words

    @pytest.mark.parametrize("kind", NoticeKind)
    def test_needs_no_fact(self, kind: NoticeKind) -> None:
        why = (
            "You get this because you are one of those who may decide on it."
            if kind is NoticeKind.APPROVAL_WAITING
            else "You get this because you are an admin of Test Bank"
        )

        for part in parts(written(make_notice(kind=kind, facts={}, secret=None, recipients=[]))):
            assert "None" not in part
            assert why in part

    def test_without_keys_nothing_is_said_of_keys(self) -> None:
        facts = {"member": "Grace", "change": "made a builder", "by": "Ada"}

        for part in parts(written(make_notice(kind="member_changed", facts=facts, secret=None))):
            assert "Grace was made a builder by Ada." in " ".join(part.split())
            assert "API key" not in part

    def test_a_revoked_key_is_not_to_be_ended_once_more(self) -> None:
        facts = {"change": "revoked", "key_name": "checkout", "key_id": "key_1"}

        for part in parts(written(make_notice(kind="api_key", facts=facts, secret=None, recipients=[]))):
            assert "make another key for the programs that used it" in " ".join(part.split())
            assert "end the key" not in part

    def test_keys_that_were_revoked_with_somebody_are_not_to_be_revoked_once_more(self) -> None:
        facts = {"member": "Grace", "change": "disabled", "by": "Ada", "api_keys": "2 revoked"}

        for part in parts(written(make_notice(kind="member_changed", facts=facts, secret=None))):
            assert "The programs that used these keys are refused now" in " ".join(part.split())
            assert "DELETE /v1/api-keys" not in part

    def test_an_operator_is_invited_to_the_platform_and_not_to_look_at_payments(self) -> None:
        facts = {"role": "operator", "invited_by_name": "Assay", "institution_name": "Platform"}

        message = written(make_notice(kind="invitation", facts=facts))

        assert message["Subject"] == "[Assay] You are invited to run an Assay platform"
        for part in parts(message):
            assert "Your role will be: operator." in part
            words = " ".join(unescape(part).split())
            assert '"Assay" invites you.' in words
            assert 'somebody who runs "Platform" gave your address to Assay' in words
            assert "payments" not in part

    def test_shows_the_request_that_takes_the_token_and_until_when_it_works(self) -> None:
        for part in parts(written(make_notice())):
            assert (
                "curl -s https://users.assay.example/v1/auth/password-resets/confirm \\\n"
                "  -H 'Content-Type: application/json' \\\n"
                f'  -d \'{{"token": "{TOKEN}", "password": "..."}}\''
            ) in unescape(part)
            assert "2999-11-02 13:03 UTC" in part

    def test_says_when_whoever_guessed_knows_the_password(self) -> None:
        facts = {"failures": "10", "last_address": "203.0.113.7", "password_was_right": "yes"}

        for part in parts(written(make_notice(kind="account_locked", facts=facts, secret=None))):
            text = " ".join(part.split())
            assert "Somebody who knows your password tried wrong codes for your account of Test Bank" in text
            assert "choose another password now" in text
            assert "guessing your password" not in text
            assert "yes" not in text

    @pytest.mark.parametrize("kind", [NoticeKind.ACCOUNT_LOCKED, NoticeKind.SECURITY_CHANGE])
    def test_shows_how_to_ask_for_a_new_password_where_that_is_advised(self, kind: NoticeKind) -> None:
        for part in parts(written(make_notice(kind=kind, secret=None))):
            assert "https://users.assay.example/v1/auth/password-resets \\\n" in part
            assert '-d \'{"email": "ada@harbour.example"}\'' in unescape(part)
            assert "The token works once" not in part

    def test_a_quote_in_an_address_ends_no_word_of_the_command(self) -> None:
        notice = make_notice(kind="account_locked", secret=None, recipients=["o'hara@harbour.example"])

        text, _ = parts(written(notice))

        words = shlex.split(text[text.index("curl") :].partition("\n\n")[0])
        assert words[-1] == '{"email": "o\'hara@harbour.example"}'

    def test_says_no_fact_twice(self) -> None:
        facts = {"role": "analyst", "invited_by_name": "Ada Okafor", "ip_address": "203.0.113.7"}

        for part in parts(written(make_notice(kind="invitation", facts=facts, secret=None))):
            assert [part.count(value) for value in facts.values()] == [1, 1, 1]

    def test_breaks_no_word(self) -> None:
        _, html = parts(written(make_notice()))

        assert "break-all" not in html

    @pytest.mark.parametrize("moment", ["2026-11-02T14:03:22+01:00", "2026-11-02T13:03:22.5Z"])
    def test_writes_a_time_among_the_facts_with_its_zone(self, moment: str) -> None:
        for part in parts(written(make_notice(facts={"first_seen": moment}))):
            assert "2026-11-02 13:03 UTC" in part
            assert moment not in part

    def test_says_how_the_token_of_a_registration_is_used(self) -> None:
        for part in parts(written(make_notice(kind="registration", facts={"institution_name": "Assay"}))):
            words = " ".join(part.split())
            assert TOKEN in words
            assert "/v1/institutions/confirm" in words
            assert "the password that you chose" in words
            assert "somebody gave your address to Assay when they registered" in words
            assert "Test Bank" not in words

    def test_shows_a_link_instead_where_there_is_one(self) -> None:
        text, html = parts(written(make_notice(), link="https://assay.example/#{token}"))

        for part in (text, html):
            assert f"https://assay.example/#{TOKEN}" in part
            assert "curl" not in part
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

    @pytest.mark.parametrize("kind", NoticeKind)
    def test_no_name_reaches_a_header(self, kind: NoticeKind) -> None:
        message = written(make_notice(kind=kind), institution_name="Bank\r\nBcc: eve@elsewhere.example")

        parsed = message_from_bytes(message.as_bytes(), policy=default)
        assert parsed["Bcc"] is None
        assert "Bank" not in parsed["Subject"]

    def test_the_same_notice_gives_the_same_bytes(self) -> None:
        assert written(make_notice()).as_bytes() == written(make_notice()).as_bytes()

    def test_a_secret_does_not_show_when_a_notice_is_printed(self) -> None:
        assert TOKEN not in repr(make_notice())


class TestInvitation:
    """Whoever is invited need not know who invites them, nor the institution."""

    @pytest.mark.parametrize("kind", ["invitation", "invited_elsewhere"])
    @pytest.mark.parametrize(
        "name",
        [
            "URGENT: your account is blocked, verify at https://evil.example/verify",
            "Log in now at www.evil.example and",
            "evil\uff0eexample or evil\u3002example or EVIL.EXAMPLE",
            'Bank" in Assay. Log in at evil.example. "',
        ],
    )
    def test_leads_nowhere_whatever_names_say(self, kind: str, name: str) -> None:
        facts = {"role": "viewer", "invited_by_name": name, "institution_name": name}

        message = written(make_notice(kind=kind, facts=facts))

        assert str(message["Subject"]).removesuffix(", with another address") == (
            "[Assay] You are invited to Assay"
        )
        for part in parts(message):
            words = unescape(part).replace("https://users.assay.example/v1/", "")
            for link in ("://", "evil.e", "www.e", "EVIL.E", "evil\uff0ee", "evil\u3002e"):
                assert link not in words
            assert 'Bank" in' not in words

    def test_says_no_more_than_the_beginning_of_a_long_name(self) -> None:
        facts = {"invited_by_name": "A" * 200, "institution_name": "B" * 200}

        for part in parts(written(make_notice(kind="invitation", facts=facts))):
            words = unescape(part)
            assert f'"{"A" * 57}..." invites you' in words
            assert f'"{"B" * 57}..." in Assay' in words
            assert "B" * 58 not in words


class TestQuota:
    def test_a_quota_that_is_used_up_is_said_in_red(self) -> None:
        facts = {"percent": "100"}

        _, html = parts(written(make_notice(kind="quota", facts=facts, secret=None)))

        assert "#a3262a" in html
