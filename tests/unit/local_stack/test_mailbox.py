"""What the mailbox keeps, and what its pages let a mail do."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from local_stack.mailbox.pages import SHOWN, mailbox_app
from local_stack.mailbox.store import MailStore


def make_mail(
    *,
    subject: str = "2 payments need attention",
    html: str = "<p>Look</p>",
    text: str = "Payment declined <script>alert(1)</script>",
) -> bytes:
    message = EmailMessage()
    message["From"] = "alerts@assay.example"
    message["To"] = "admin@bank.example"
    message["Subject"] = subject
    message["Date"] = "Mon, 02 Nov 2026 12:00:00 +0000"
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    return message.as_bytes()


@pytest.fixture
def store(tmp_path: Path) -> MailStore:
    return MailStore(tmp_path / "mails")


@pytest.fixture
async def browser(store: MailStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=mailbox_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://mailbox") as client:
        yield client


class TestMailStore:
    def test_returns_what_was_delivered(self, store: MailStore) -> None:
        content = make_mail()

        mail_id = store.save(content)

        assert store.content(mail_id) == content
        mail = store.read(mail_id)
        assert mail is not None
        assert mail.header("Subject") == "2 payments need attention"
        assert (mail.text("html") or "").strip() == "<p>Look</p>"

    def test_lists_the_newest_first(self, store: MailStore) -> None:
        saved = [store.save(make_mail()) for _ in range(3)]

        assert set(store.ids()) == set(saved)
        assert store.ids() == sorted(saved, reverse=True)

    def test_leaves_nothing_unfinished(self, store: MailStore, tmp_path: Path) -> None:
        mail_id = store.save(make_mail())

        assert [path.name for path in (tmp_path / "mails").iterdir()] == [f"{mail_id}.eml"]

    @pytest.mark.parametrize("mail_id", ["../secrets", "mail_1", "", "mail_" + "0" * 26])
    def test_knows_no_mail_by_any_other_name(self, store: MailStore, tmp_path: Path, mail_id: str) -> None:
        (tmp_path / "secrets.eml").write_text("not a mail")

        assert store.read(mail_id) is None

    def test_a_mail_without_a_part_has_no_text_of_that_kind(self, store: MailStore) -> None:
        mail = store.read(store.save(b"Subject: plain\r\n\r\nonly text\r\n"))

        assert mail is not None
        assert mail.text("html") is None


class TestMailboxPages:
    async def test_an_empty_mailbox_says_how_a_mail_comes(self, browser: httpx.AsyncClient) -> None:
        page = await browser.get("/")

        assert page.status_code == 200
        assert "No mail was delivered yet" in page.text

    async def test_mails_are_listed_with_date_recipient_and_subject(
        self, browser: httpx.AsyncClient, store: MailStore
    ) -> None:
        mail_id = store.save(make_mail(subject="Payment <b>declined</b>"))

        page = await browser.get("/")

        assert f'<a href="/mails/{mail_id}">Payment &lt;b&gt;declined&lt;/b&gt;</a>' in page.text
        assert "admin@bank.example" in page.text
        assert "Mon, 02 Nov 2026" in page.text

    async def test_a_full_mailbox_shows_the_newest_ones(
        self, browser: httpx.AsyncClient, store: MailStore
    ) -> None:
        for _ in range(SHOWN + 1):
            store.save(b"Subject: one\r\n\r\ntext\r\n")

        page = await browser.get("/")

        assert page.text.count('<a href="/mails/') == SHOWN
        assert f"{SHOWN + 1} mails were delivered" in page.text

    async def test_one_mail_shows_its_text_escaped_and_its_html_in_a_locked_frame(
        self, browser: httpx.AsyncClient, store: MailStore
    ) -> None:
        mail_id = store.save(make_mail())

        page = await browser.get(f"/mails/{mail_id}")

        assert "<script>" not in page.text
        assert "Payment declined &lt;script&gt;" in page.text
        assert f'<iframe sandbox src="/mails/{mail_id}/html"' in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]

    async def test_the_html_of_a_mail_can_run_and_load_nothing(
        self, browser: httpx.AsyncClient, store: MailStore
    ) -> None:
        mail_id = store.save(make_mail(html="<script>alert(1)</script><p>Look</p>"))

        page = await browser.get(f"/mails/{mail_id}/html")

        policy = page.headers["Content-Security-Policy"]
        assert "<p>Look</p>" in page.text
        assert policy.startswith("sandbox;")
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "allow-scripts" not in policy

    async def test_the_newest_mail_to_somebody_about_something_is_shown_as_text(
        self, browser: httpx.AsyncClient, store: MailStore
    ) -> None:
        to_ada = b"X-Envelope-To: ada@bank.example, bob@bank.example\r\n"
        store.save(to_ada + make_mail(subject="You are invited", text="the first"))
        store.save(to_ada + make_mail(subject="You are invited", text="the second"))
        store.save(to_ada + make_mail(subject="Choose a new password"))
        store.save(b"X-Envelope-To: eve@bank.example\r\n" + make_mail(subject="You are invited"))

        found = await browser.get("/newest", params={"to": "ada@bank.example", "subject": "invited"})
        others = [
            await browser.get("/newest", params={"to": to, "subject": subject})
            for to, subject in [("ada@bank", ""), ("ada@bank.example", "locked"), ("", "")]
        ]

        assert found.text.strip() == "the second"
        assert found.headers["content-type"] == "text/plain; charset=utf-8"
        assert [answer.status_code for answer in others] == [404, 404, 404]

    async def test_the_source_is_plain_text(self, browser: httpx.AsyncClient, store: MailStore) -> None:
        content = make_mail()

        page = await browser.get(f"/mails/{store.save(content)}/source")

        assert page.content == content
        assert page.headers["Content-Type"].startswith("text/plain")
        assert page.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("page", ["", "/html", "/source"])
    async def test_an_unknown_mail_is_not_there(self, browser: httpx.AsyncClient, page: str) -> None:
        answer = await browser.get(f"/mails/mail_{'0' * 26}{page}")

        assert answer.status_code == 404

    async def test_is_ready(self, browser: httpx.AsyncClient) -> None:
        answer = await browser.get("/ready")

        assert answer.json() == {"ready": True}
