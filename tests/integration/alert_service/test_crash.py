import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.alert_factories import alert_body
from tests.conftest import RunningUserService
from tests.integration.alert_service.processes import (
    alert_service_process,
    is_gone,
    raise_until_done,
    times_told,
)
from tests.mail_server import MailServer, mail_server
from tests.waiting import eventually

ADMIN = "admin@example.org"


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    """A mail server that outlives the service."""
    async with mail_server() as running:
        yield running


class TestKilledInTheMiddleOfAStream:
    async def test_every_accepted_alert_is_told_in_exactly_one_mail(
        self, tmp_path: Path, users: RunningUserService, mails: MailServer
    ) -> None:
        batches = [[f"alr_{place:03}_{number}" for number in range(5)] for place in range(60)]
        waiting = iter(batches)
        accepted: list[str] = []

        for kill_after in (50, 150, None):
            async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (process, alerts):

                async def stream() -> None:
                    for batch in waiting:
                        if await raise_until_done(alerts, batch):
                            accepted.extend(batch)
                        if kill_after is not None and len(accepted) >= kill_after:  # noqa: B023 - as above
                            await process.kill()
                        if not process.running:
                            return

                await asyncio.gather(*[stream() for _ in range(3)])
                if kill_after is None:
                    await mails.until(lambda _received: set(accepted) <= set(mails.ids()))

        told = times_told(mails.received)
        assert len(accepted) >= 150
        assert set(accepted) <= told.keys()
        assert set(told.values()) == {1}


class TestKilledBetweenSendingAndNoting:
    async def test_sends_the_same_mail_again_to_the_byte(
        self, tmp_path: Path, users: RunningUserService, mails: MailServer
    ) -> None:
        mails.holds_after_data = asyncio.Event()
        async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (process, alerts):
            await alerts.raise_some(3)
            await mails.until(len)

            await process.kill()
        mails.holds_after_data.set()

        async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (_, alerts):
            await alerts.until_state("alr_x_0", "delivered")

        first, second = mails.received
        assert first.message["Message-ID"] == second.message["Message-ID"]
        assert first.message.as_bytes() == second.message.as_bytes()
        assert Counter(mails.ids()) == Counter({f"alr_x_{number}": 2 for number in range(3)})


class TestStoppedInOrder:
    async def test_lets_a_mail_under_way_come_to_its_end(
        self, tmp_path: Path, users: RunningUserService, mails: MailServer
    ) -> None:
        mails.held[ADMIN] = asyncio.Event()
        async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (process, alerts):
            await alerts.raise_some(3)
            await mails.until(lambda _received: mails.waiting)

            stopping = asyncio.create_task(process.stop())
            await eventually(lambda: is_gone(alerts))
            mails.held.pop(ADMIN).set()
            status = await stopping

        async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (_, alerts):
            notification = await alerts.until_state("alr_x_0", "delivered")

        assert status == 0
        assert len(mails.received) == 1
        assert notification["attempts"] == 1

    async def test_ends_in_time_when_the_mail_server_hangs_and_gives_the_mail_back(
        self, tmp_path: Path, users: RunningUserService, mails: MailServer
    ) -> None:
        gate = mails.held[ADMIN] = asyncio.Event()
        changes = {"GRACEFUL_SHUTDOWN_S": "1", "SMTP_TIMEOUT_S": "60"}
        async with alert_service_process(tmp_path, users, smtp_port=mails.port, **changes) as (
            process,
            alerts,
        ):
            await alerts.raise_some(3)
            await mails.until(lambda _received: mails.waiting)

            async with asyncio.timeout(45):  # less than the mail server may take
                status = await process.stop()
        with closing(sqlite3.connect(tmp_path / "alert_service.db")) as database:
            leases = database.execute("SELECT leased_until_ms FROM mails").fetchall()

        del mails.held[ADMIN]
        gate.set()
        async with alert_service_process(tmp_path, users, smtp_port=mails.port) as (_, alerts):
            await alerts.until_state("alr_x_0", "delivered")

        assert status == 0
        assert leases == [(0,)]
        assert len(mails.received) == 1


class TestTwoProcesses:
    async def test_never_send_the_same_mail(
        self, tmp_path: Path, users: RunningUserService, mails: MailServer
    ) -> None:
        ids = [f"alr_{number:03}" for number in range(200)]
        changes = {
            "MAIL_COLLECT_S": "0",
            "MAIL_MAX_ALERTS": "2",
            "MAIL_CONCURRENCY": "8",
            "SMTP_TIMEOUT_S": "60",
        }
        gate = mails.held[ADMIN] = asyncio.Event()
        async with (
            alert_service_process(tmp_path, users, smtp_port=mails.port, **changes) as (_, one),
            alert_service_process(tmp_path, users, smtp_port=mails.port, **changes) as (_, other),
        ):
            await asyncio.gather(
                *(
                    service.raise_alerts(
                        *(
                            alert_body(
                                alert_id=each,
                                institution={
                                    "institution_id": f"ins_{start % 7}",
                                    "mode": "live",
                                    "base_currency": "EUR",
                                },
                            )
                            for each in ids[start : start + 5]
                        )
                    )
                    for start in range(0, len(ids), 5)
                    for service in (one, other)
                )
            )
            await mails.until(lambda _received: len(mails.waiting) > 8)  # both are sending
            del mails.held[ADMIN]
            gate.set()
            await mails.until(lambda _received: set(mails.ids()) == set(ids))

        assert Counter(mails.ids()) == Counter(ids)
