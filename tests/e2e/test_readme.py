"""The commands of the README do what the README says."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_stack.demo import PAYMENTS
from local_stack.settings import StackSettings
from tests.e2e.stacks import running_stack, unhurried
from tests.waiting import PATIENCE_S

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = re.findall(r"```bash\n(curl .*?)```", README, re.DOTALL)
REPLY = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])


def run(command: str, settings: StackSettings, *, token: str = "") -> httpx.Response:
    """Do what `curl` would do, against the ports of this test's stack."""
    for port, actual in ((8000, settings.ai_service_port), (8001, settings.user_service_port)):
        command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{actual}")
    words = shlex.split(command.replace("$TOKEN", token))
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    url = next(word for word in words if word.startswith("http"))
    return httpx.post(url, headers=headers, content=body, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> list[httpx.Response]:
    with unhurried(), running_stack(tmp_path_factory.mktemp("readme") / "var") as stack:
        registered = run(COMMANDS[0], stack.settings)
        token = registered.json()["tokens"]["access_token"]
        return [registered, *(run(command, stack.settings, token=token) for command in COMMANDS[1:])]


def shape(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the keys of `value`, all the way down; signals are there or not, as the model finds."""
    if not isinstance(value, dict):
        return None
    return {key: None if key == "signals" else shape(each) for key, each in value.items()}


class TestReadme:
    def test_registers_scores_and_makes_a_key(self, replies: list[httpx.Response]) -> None:
        assert [reply.status_code for reply in replies] == [201, 200, 201]
        assert replies[2].json()["key"].startswith("ask_test_")

    def test_shows_a_reply_of_the_shape_that_is_answered(self, replies: list[httpx.Response]) -> None:
        scored = replies[1].json()

        assert shape(scored) == shape(REPLY)
        assert scored["transaction_id"] == REPLY["transaction_id"]
        assert scored["deliveries"]["audit"] == "delivered"

    def test_says_how_many_payments_the_demo_sends(self) -> None:
        assert f"streams {PAYMENTS:,} simulated payments" in README

    def test_links_to_what_exists(self) -> None:
        links = re.findall(r"\]\(([^)#]+)\)", README)

        assert [link for link in links if not (Path(__file__).parents[2] / link).exists()] == []
