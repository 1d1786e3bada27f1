"""What user_service has to tell reaches the real log_service and alert_service, once, whatever was away meanwhile."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.clock import epoch_ms
from common.contracts.notices import NoticeKind
from tests.api.user_service.conftest import Admin, register
from tests.integration.user_service.services import PASSPHRASE, Services, services
from tests.waiting import eventually
from user_service.derived_keys import derive_keys
from user_service.events.recording import SYSTEM, Action, Event, record
from user_service.mailed_tokens.texts import token_text
from user_service.notices.queue import Letter, queue_notice

NAMED = Event(Action.USER_NAME_CHANGED, SYSTEM, "user", "usr_1", {"part": "full_name"})
TOKEN_ID = "mtk_01jd3vabcdefghjkmnpqrstvwx"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Services]:
    async with services(tmp_path) as opened:
        yield opened


@pytest.fixture
async def admin(running: Services) -> Admin:
    return await register(await running.client("user_service"))


async def record_some(running: Services, admin: Admin, count: int) -> list[str]:
    """Record events as requests do, each in a transaction of its own."""
    institution = await running.institution(admin.institution_id)

    async def do(session: AsyncSession) -> str:
        return await record(session, institution, NAMED, now_ms=epoch_ms())

    return [await running.in_transaction(do) for _ in range(count)]


async def ask_for_mail(running: Services, admin: Admin, **changes: Any) -> str:  # noqa: ANN401 - any field
    letter = Letter(
        **{
            "kind": NoticeKind.PASSWORD_RESET,
            "institution_id": admin.institution_id,
            "recipients": [admin.email],
            "token_id": TOKEN_ID,
            "expires_at_ms": epoch_ms() + 3_600_000,
            **changes,
        }
    )

    async def do(session: AsyncSession) -> str:
        return await queue_notice(session, letter, now_ms=epoch_ms())

    found = await running.in_transaction(do)
    assert isinstance(found, str)
    return found


def archived_lines(running: Services) -> list[bytes]:
    lines = [gzip.decompress(content).splitlines() for content in running.bucket.objects().values()]
    return [line for found in lines for line in found]


def saved_bodies(running: Services) -> list[bytes]:
    query = "SELECT body FROM identity_events ORDER BY institution_id, sequence"
    return [row[0] for row in running.rows("users.db", query)]


async def until_archived(running: Services) -> None:
    """Wait until as many lines are archived as there are events."""
    await eventually(running.all_told)

    async def enough() -> bool:
        return len(archived_lines(running)) >= len(saved_bodies(running))

    await eventually(enough)


def events_of(running: Services, admin: Admin) -> list[dict[str, Any]]:
    """Return the events of an institution, in order."""
    query = "SELECT body FROM identity_events WHERE institution_id = ? ORDER BY sequence"
    return [orjson.loads(row[0])["event"] for row in running.rows("users.db", query, admin.institution_id)]


def numbers(running: Services, admin: Admin) -> list[int]:
    return [event["event_sequence"] for event in events_of(running, admin)]


class TestEvents:
    async def test_are_archived_once_each_byte_for_byte(self, running: Services, admin: Admin) -> None:
        await running.start_log_service()
        event_ids = await record_some(running, admin, 5)

        await until_archived(running)

        assert sorted(archived_lines(running)) == sorted(saved_bodies(running))
        events = events_of(running, admin)
        assert numbers(running, admin) == list(range(1, len(events) + 1))
        assert events[0]["action"] == "institution.registered"
        assert [each["event_id"] for each in events[-5:]] == event_ids

    async def test_are_read_by_the_institution_they_are_about_and_nobody_else(
        self, running: Services, admin: Admin
    ) -> None:
        await running.start_log_service()
        rival = await register(await running.client("user_service"), email="eve@elsewhere.example")
        (event_id,) = await record_some(running, admin, 1)
        await until_archived(running)
        logs = await running.client("log_service")

        ours = await logs.get(f"/v1/audit/records/{event_id}", headers=admin.headers)
        theirs = await logs.get(f"/v1/audit/records/{event_id}", headers=rival.headers)

        assert orjson.loads(ours.content)["event"]["event_id"] == event_id
        assert theirs.status_code == 404

    async def test_wait_while_log_service_is_away_and_hold_nobody_up(
        self, running: Services, admin: Admin
    ) -> None:
        event_ids = await record_some(running, admin, 40)

        async def has_tried() -> bool:
            return any(error for _, _, error in await running.waiting())

        await eventually(has_tried)
        before = {subject for _, subject, _ in await running.waiting()}
        await running.start_log_service()
        await until_archived(running)

        assert set(event_ids) < before
        assert sorted(archived_lines(running)) == sorted(saved_bodies(running))

    async def test_told_again_change_nothing(self, running: Services, admin: Admin) -> None:
        await running.start_log_service()
        (event_id,) = await record_some(running, admin, 1)
        await eventually(running.all_told)

        running.change("INSERT INTO outbox VALUES ('audit', ?, 0, 0, 1, NULL)", event_id)
        await until_archived(running)

        assert sorted(archived_lines(running)) == sorted(saved_bodies(running))

    async def test_one_that_is_refused_holds_up_no_other(self, running: Services, admin: Admin) -> None:
        odd, *_ = await record_some(running, admin, 3)
        body = running.rows("users.db", "SELECT body FROM identity_events WHERE event_id = ?", odd)[0][0]
        running.change(
            "UPDATE identity_events SET body = ? WHERE event_id = ?",
            body.replace(b'"kind":"identity"', b'"kind":"decision"'),
            odd,
        )

        await running.start_log_service()

        async def only_it_is_left() -> bool:
            return [subject for _, subject, _ in await running.waiting()] == [odd]

        await eventually(only_it_is_left)
        ((_, _, error),) = await running.waiting()
        assert error is None or error.startswith("refused: status 422")

    async def test_of_a_transaction_that_was_rolled_back_were_never_there(
        self, running: Services, admin: Admin
    ) -> None:
        institution = await running.institution(admin.institution_id)

        async def do(session: AsyncSession) -> None:
            await record(session, institution, NAMED, now_ms=epoch_ms())
            raise ZeroDivisionError

        before, waiting = numbers(running, admin), len(await running.waiting())
        with pytest.raises(ZeroDivisionError):
            await running.in_transaction(do)
        after = numbers(running, admin)
        await record_some(running, admin, 1)

        assert after == before
        assert numbers(running, admin) == [*before, len(before) + 1]
        assert len(await running.waiting()) == waiting + 1


class TestNotices:
    async def test_become_mails_that_hold_the_token_and_are_forgotten_here(
        self, running: Services, admin: Admin
    ) -> None:
        await running.start_log_service()
        await running.start_alert_service()
        notice_id = await ask_for_mail(running, admin)

        await running.mails.until(len)
        await eventually(running.all_told)

        (received,) = running.mails.received
        token = token_text(derive_keys(PASSPHRASE).mailed_tokens, TOKEN_ID)
        assert received.recipients == (admin.email,)
        assert token in received.text
        assert notice_id in received.text
        assert "Harbour Payments" in received.text
        assert running.rows("users.db", "SELECT * FROM notices") == []

    async def test_wait_while_alert_service_is_away_without_their_token(
        self, running: Services, admin: Admin, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token = token_text(derive_keys(PASSPHRASE).mailed_tokens, TOKEN_ID)
        await ask_for_mail(running, admin)

        async def has_tried() -> bool:
            return any(target == "notices" and error for target, _, error in await running.waiting())

        await eventually(has_tried)
        kept = running.rows("users.db", "SELECT body, token_id FROM notices")
        await running.start_alert_service()
        await running.mails.until(len)

        assert len(kept) == 1
        assert token not in str(kept)
        assert token in running.mails.received[0].text
        logged = capsys.readouterr().out
        assert "outbox.not_delivered" in logged
        assert token not in logged
        assert admin.email not in logged

    async def test_without_recipients_reach_the_admins(self, running: Services, admin: Admin) -> None:
        await running.start_alert_service()

        await ask_for_mail(running, admin, kind=NoticeKind.SECURITY_CHANGE, recipients=(), token_id=None)

        await running.mails.until(len)
        assert running.mails.received[0].recipients == (admin.email,)

    async def test_more_than_fit_one_call_all_arrive(self, running: Services, admin: Admin) -> None:
        notice_ids = [
            await ask_for_mail(running, admin, kind=NoticeKind.SECURITY_CHANGE, token_id=None)
            for _ in range(70)
        ]

        await running.start_alert_service()
        await running.mails.until(lambda received: len(received) >= 70, timeout_s=60)

        told = " ".join(received.text for received in running.mails.received)
        assert [each for each in notice_ids if told.count(each) != 1] == []


class TestOverPostgres:
    async def test_events_and_notices_arrive_as_over_sqlite(self, tmp_path: Path, postgres_url: str) -> None:
        async with services(tmp_path, database_url=postgres_url) as running:
            admin = await register(await running.client("user_service"))
            event_ids = await record_some(running, admin, 3)
            notice_id = await ask_for_mail(running, admin)
            await running.start_log_service()
            await running.start_alert_service()

            await running.mails.until(len)

            async def nothing_is_left() -> bool:
                counts = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM notices)"
                found = await running.in_transaction(lambda session: session.scalar(text(counts)))
                return bool(found == 0)

            await eventually(nothing_is_left)

            async def all_archived() -> bool:
                lines = [orjson.loads(line)["event"]["event_id"] for line in archived_lines(running)]
                return set(event_ids) < set(lines) and len(set(lines)) == len(lines)

            await eventually(all_archived)

        assert notice_id in running.mails.received[0].text
