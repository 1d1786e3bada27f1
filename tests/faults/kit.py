"""The fault proxies and the mail server in a process of their own, so that a busy test does not slow them down.

`FaultKit` starts `python -m tests.faults.kit`, which takes one JSON command a line and answers each with one line.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_stack.mailbox.store import MailStore
from tests.faults.faults import PASS, Fault
from tests.faults.proxy import FaultProxy
from tests.faults.smtp import MailFaults, misbehaving_mail_server
from tests.waiting import PATIENCE_S

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Route:
    """A proxy's name, the port it takes, and where it leads on this machine."""

    name: str
    port: int
    target_port: int


class FaultKitError(Exception):
    """The kit's process did not do what it was asked."""


class FaultKit:
    """Commands for the kit's process; each is done when its method returns."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def set(self, name: str, fault: Fault) -> None:
        """Let the proxy `name` do `fault`."""
        self._ask({"do": "fault", "name": name, "fault": fault.to_json()})

    def set_mail(self, faults: MailFaults) -> None:
        """Let the mail server do `faults`."""
        self._ask({"do": "mail", "faults": faults.to_json()})

    def accepted(self, name: str) -> int:
        """Return how many connections the proxy `name` has taken so far."""
        return int(self._ask({"do": "count", "name": name})["accepted"])

    def heal(self, names: Mapping[str, object] | list[str]) -> None:
        """Let these proxies pass everything and the mail server take everything."""
        for name in names:
            self.set(name, PASS)
        self.set_mail(MailFaults())

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise FaultKitError("the process has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise FaultKitError(answer["error"])
        return answer


@contextmanager
def fault_kit(routes: list[Route], *, mails: Path, smtp_port: int) -> Iterator[FaultKit]:
    """Run the kit while the block runs; `mails` is the folder that keeps what was mailed."""
    plan = {
        "routes": [(route.name, route.port, route.target_port) for route in routes],
        "mails": str(mails),
        "smtp_port": smtp_port,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.kit", json.dumps(plan)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        kit = FaultKit(process)
        try:
            kit._ask({"do": "nothing"})  # answered once everything listens
            yield kit
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


async def serve(plan: Mapping[str, Any]) -> None:
    """Run proxies and mail server until standard input ends."""
    async with AsyncExitStack() as stack:
        mail = await stack.enter_async_context(
            misbehaving_mail_server(MailStore(Path(plan["mails"])), port=plan["smtp_port"])
        )
        proxies: dict[str, FaultProxy] = {}
        for name, port, target_port in plan["routes"]:
            proxies[name] = FaultProxy(("127.0.0.1", target_port), port=port)
            stack.push_async_callback(proxies[name].close)
            await proxies[name].start()
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            try:
                answer = await _done(command, proxies)
                if command["do"] == "mail":
                    mail.set(MailFaults.from_json(command["faults"]))
            except (KeyError, ValueError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to the one who asked


async def _done(command: Mapping[str, Any], proxies: Mapping[str, FaultProxy]) -> dict[str, Any]:
    if command["do"] == "fault":
        await proxies[command["name"]].set(Fault.from_json(command["fault"]))
    elif command["do"] == "count":
        return {"accepted": proxies[command["name"]].accepted}
    return {}


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
