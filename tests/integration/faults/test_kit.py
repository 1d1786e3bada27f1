"""The kit in its own process does what it is told, by name, from the moment the command returns."""

import asyncio
import smtplib
import socket
from email.message import EmailMessage
from pathlib import Path

import pytest

from local_stack.mailbox.store import MailStore
from tests.e2e.stacks import free_ports
from tests.faults.faults import GARBLED, PASS, REFUSE
from tests.faults.kit import FaultKit, FaultKitError, Route, fault_kit
from tests.faults.smtp import MailFaults
from tests.raw_servers import answering, reply


def mail() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "alerts@assay.example", "ann@assay.example"
    message.set_content("alr_1")
    return message


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = b""
        while more := connection.recv(65_536):
            answer += more
        return answer


class TestFaultKit:
    async def test_faults_are_set_by_name(self, tmp_path: Path) -> None:
        good, bad, smtp = free_ports(3)
        async with answering(reply(200, b"fine")) as url:
            target = int(url.rpartition(":")[2])
            with fault_kit(
                [Route("good", good, target), Route("bad", bad, target)], mails=tmp_path, smtp_port=smtp
            ) as kit:
                kit.set("bad", GARBLED)

                assert (await asyncio.to_thread(ask, good)).endswith(b"fine")
                assert not (await asyncio.to_thread(ask, bad)).endswith(b"fine")
                assert (kit.accepted("good"), kit.accepted("bad")) == (1, 1)

    async def test_a_refusing_proxy_listens_again(self, tmp_path: Path) -> None:
        port, smtp = free_ports(2)
        async with answering(reply(200, b"fine")) as url:
            route = Route("log_service", port, int(url.rpartition(":")[2]))
            with fault_kit([route], mails=tmp_path, smtp_port=smtp) as kit:
                kit.set("log_service", REFUSE)
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.to_thread(ask, port)
                kit.set("log_service", PASS)

                assert (await asyncio.to_thread(ask, port)).endswith(b"fine")

    def test_the_mail_server_is_told_too(self, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        with fault_kit([], mails=tmp_path, smtp_port=port) as kit:
            kit.set_mail(MailFaults(recipients=(("ann@assay.example", "550 no"),)))
            with smtplib.SMTP("127.0.0.1", port) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
                client.send_message(mail())
            kit.heal([])
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.send_message(mail())

        assert len(MailStore(tmp_path).ids()) == 1

    def test_an_unknown_name_is_an_error(self, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        kit: FaultKit
        with fault_kit([], mails=tmp_path, smtp_port=port) as kit, pytest.raises(FaultKitError):
            kit.set("nobody", PASS)
