"""What a broken mail server can do at each step, and that no mail is lost or told twice without need."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes

import pytest

from tests.alert_factories import alert_body
from tests.api.alert_service.conftest import Alerts, OpenAlerts
from tests.mail_server import MailServer
from tests.waiting import PATIENCE_S, eventually

SHORT_S = 0.3
GOOD = {
    "greeting": b"220 mail.test\r\n",
    "EHLO": b"250 mail.test\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go on\r\n",
    "contents": b"250 taken\r\n",
    "QUIT": b"221 bye\r\n",
}
STEPS = tuple(GOOD)
BEFORE_QUIT = STEPS[:-1]


class _HungUpError(Exception):
    """The other side closed the connection."""


@dataclass
class ScriptedServer:
    """Answers each step of a mail as `faults` says and everything else well; no bytes mean silence."""

    faults: dict[str, bytes] = field(default_factory=dict)
    repeat: int = 1
    port: int = 0
    ids: list[str] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one who connected."""
        task = asyncio.create_task(self._talk(reader, writer))
        self.talks.add(task)
        task.add_done_callback(self.talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer("greeting", reader, writer)
            while True:
                step = (await _line(reader))[:4].decode().upper()
                await self._answer(step, reader, writer)
                if step == "DATA":
                    await self._take(reader, writer)
        except (_HungUpError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "DATA" in self.faults:
            return
        lines = []
        while (line := await _line(reader)) != b".\r\n":
            lines.append(line)
        if self.faults.get("contents", b"250")[:1] in {
            b"2",
            b"",
        }:  # silence after the contents: taken all the same
            message = message_from_bytes(b"".join(lines))
            self.message_ids.append(message["Message-ID"])
            self.ids += [word for word in b"".join(lines).decode().split() if word.startswith("alr_")]
        await self._answer("contents", reader, writer)

    async def _answer(self, step: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self.faults.get(step, GOOD.get(step, b"250 ok\r\n"))
        for _ in range(self.repeat if step in self.faults else 1):
            writer.write(answer)
            await writer.drain()
        if not answer:
            await _line(reader)  # nothing comes any more: the other side gives up


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise _HungUpError
    return line


@asynccontextmanager
async def scripted(server: ScriptedServer) -> AsyncIterator[ScriptedServer]:
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        for talk in server.talks:
            talk.cancel()
        await asyncio.gather(*server.talks, return_exceptions=True)


async def delivered_after_mending(open_alerts: OpenAlerts, server: ScriptedServer) -> str:
    """Raise an alert while the server misbehaves, mend it, wait for the mail; return what was said meanwhile."""
    async with (
        scripted(server),
        open_alerts(smtp_port=server.port, smtp_timeout_s=SHORT_S, mail_collect_s=0) as alerts,
    ):
        await alerts.raise_alerts(alert_body())
        found = await alerts.until_failed("alr_1")
        server.faults = {}
        await alerts.until_state("alr_1", "delivered", timeout_s=40)
    return str(found["last_error"])


class TestSilence:
    @pytest.mark.parametrize("step", BEFORE_QUIT)
    async def test_at_any_step_costs_a_try_and_not_the_mail(self, open_alerts: OpenAlerts, step: str) -> None:
        server = ScriptedServer({step: b""})

        said = await delivered_after_mending(open_alerts, server)

        assert said == "the mail server took too long"
        assert set(server.ids) == {"alr_1"}
        assert len(set(server.message_ids)) == 1

    async def test_after_the_mail_was_taken_makes_no_second_one(self, open_alerts: OpenAlerts) -> None:
        server = ScriptedServer({"QUIT": b""})
        async with scripted(server), open_alerts(smtp_port=server.port, mail_collect_s=0) as alerts:
            await alerts.raise_alerts(alert_body())

            found = await alerts.until_state("alr_1", "delivered")

        assert found["attempts"] == 1
        assert server.ids == ["alr_1"]


class TestTemporaryRefusals:
    @pytest.mark.parametrize("code", [421, 450, 451, 452])
    @pytest.mark.parametrize("step", [step for step in BEFORE_QUIT if step != "EHLO"])
    async def test_at_any_step_are_tried_again(self, open_alerts: OpenAlerts, step: str, code: int) -> None:
        server = ScriptedServer({step: b"%d later\r\n" % code})

        said = await delivered_after_mending(open_alerts, server)

        assert said.startswith(str(code))
        assert server.ids == ["alr_1"]


class TestTooMuch:
    @pytest.mark.parametrize(
        "flood",
        [b"x" * 65_536, b"250-" + b"x" * 1000 + b"\r\n", b"250-x\r\n" * 1000],
        ids=["one line", "long lines", "many lines"],
    )
    @pytest.mark.parametrize("step", ["greeting", "EHLO", "RCPT", "contents"])
    async def test_an_answer_without_end_is_hung_up_on(
        self, open_alerts: OpenAlerts, step: str, flood: bytes
    ) -> None:
        server = ScriptedServer({step: flood}, repeat=2_000_000 // len(flood) * 5)
        async with scripted(server), open_alerts(smtp_port=server.port, mail_collect_s=0) as alerts:
            await alerts.raise_alerts(alert_body())

            found = await alerts.until_failed("alr_1")
            async with asyncio.timeout(PATIENCE_S):
                await server.hung_up.wait()

        assert found["state"] == "pending"


class TestRecovery:
    async def test_everything_that_waited_arrives_however_long_its_own_wait_has_become(
        self, open_alerts: OpenAlerts, mails: MailServer
    ) -> None:
        mails.data_replies += ["451 later"] * 40
        async with open_alerts(mail_collect_s=0, mail_max_alerts=1) as alerts:
            ids = [f"alr_{number}" for number in range(12)]
            for each in ids:
                await alerts.raise_for(f"ins_{each}", each)
            await eventually(lambda: _is_down_to(mails.data_replies, 10))
            mails.data_replies.clear()

            await mails.until(lambda _received: sorted(mails.ids()) == sorted(ids), timeout_s=60)

    async def test_a_slow_recipient_holds_up_nobody_else(self, alerts: Alerts, mails: MailServer) -> None:
        never = asyncio.Event()
        mails.held["slow@example.org"] = never
        alerts.users.fake.recipients["ins_slow"] = ["slow@example.org"]
        await alerts.raise_for("ins_slow", "alr_slow")
        await mails.until(lambda _received: mails.waiting)

        quick = [f"alr_{number}" for number in range(20)]
        for each in quick:
            await alerts.raise_for(f"ins_{each}", each)

        await mails.until(lambda _received: set(quick) <= set(mails.ids()))
        never.set()


async def _is_down_to(replies: Sequence[str], count: int) -> bool:
    return len(replies) <= count
