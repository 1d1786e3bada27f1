"""Every command of the walk through identity does what the page says, in the order of the page."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.contracts.decisions import Outcome
from local_stack.accounts import log_in, register_sandbox
from local_stack.child import PROJECT
from local_stack.settings import StackSettings
from local_stack.stack import Stack
from tests.e2e.stacks import as_environment, stack_as_everybody_has_it
from tests.waiting import PATIENCE_S

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
BLOCKS = re.findall(r"^## (.*?)$|```bash\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
WITHIN_S = 60
TIMEOUT_S = 300
MAIL_FUNCTION = re.findall(r"^mail\(\) .*?^}\n", PAGE, re.DOTALL | re.MULTILINE)[0]
PORTS = {
    8000: "ai_service_port",
    8001: "user_service_port",
    8003: "alert_service_port",
    8026: "mailbox_port",
}
# what `make operator` runs (tests/unit/test_repository.py), with this Python rather than one that make would set up
MAKE = f'make() {{ {shlex.quote(sys.executable)} -m local_stack "$1" ${{2:+--email "${{2#EMAIL=}}"}}; }}\n'


def adapted(commands: str, settings: StackSettings) -> str:
    """Return `commands` for the ports of this test's stack and the Python that runs it."""
    for port, setting in PORTS.items():
        commands = commands.replace(f"127.0.0.1:{port}", f"127.0.0.1:{getattr(settings, setting)}")
    return commands.replace(".venv/bin/python", shlex.quote(sys.executable))


def script(settings: StackSettings) -> str:
    """Return the page as one script that says before what each heading's commands print which heading that was."""
    lines = [f"printf '\\n## %s\\n' {shlex.quote(title)}\n" if title else code for title, code in BLOCKS]
    return adapted("".join(lines), settings)


def run(stack: Stack, commands: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", MAKE + commands],  # noqa: S607 - what a person would do
        cwd=PROJECT,
        env={**os.environ, **as_environment(stack.settings), "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_as_everybody_has_it(tmp_path_factory.mktemp("identity")) as running:
        yield running


@pytest.fixture(scope="module")
def printed(stack: Stack) -> Mapping[str, str]:
    """Run the page and return what was printed, by heading."""
    done = run(stack, script(stack.settings))
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    parts = re.split(r"^## (.*)$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def answers(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def seconds(text: str) -> list[int]:
    return [int(each) for each in re.findall(r"refused after (\d+) seconds", text)]


class TestWalk:
    def test_everything_on_the_page_was_run(self, printed: Mapping[str, str]) -> None:
        assert list(printed) == [title for title, _ in BLOCKS if title]

    def test_the_first_admin_is_registered(self, printed: Mapping[str, str]) -> None:
        (me,) = answers(printed["An institution and its first admin"])

        assert me["role"] == "admin"

    def test_an_analyst_joins_with_the_mailed_token_and_may_do_what_the_table_says(
        self, printed: Mapping[str, str]
    ) -> None:
        shown = printed["Inviting an analyst"]

        assert "Your role will be: analyst." in shown
        assert shown.split()[-2:] == ["200", "403"]

    def test_a_second_factor_is_asked_for(self, printed: Mapping[str, str]) -> None:
        shown = printed["A second factor"]

        assert len(answers(shown)[0]["recovery_codes"]) == 10
        assert shown.split()[-1] == "401"

    def test_both_keys_and_the_token_score(self, printed: Mapping[str, str]) -> None:
        shown = printed["An API key, and another in its place"]

        (scored,) = answers(shown)
        assert shown.split()[-3:] == [scored["outcome"]] * 3

    def test_rights_end_within_a_minute(self, printed: Mapping[str, str]) -> None:
        key_and_analyst = seconds(printed["How long a right that was taken away still works"])
        institution = seconds(printed["Running the platform"])

        assert (len(key_and_analyst), len(institution)) == (2, 1)
        assert max(key_and_analyst + institution) <= WITHIN_S

    def test_the_second_admin_is_made_alone_and_the_third_by_two(self, printed: Mapping[str, str]) -> None:
        shown = printed["A new admin needs a second person"]
        second, approved = answers(shown)

        assert (second["role"], second["state"]) == ("admin", "invited")
        assert shown.splitlines().count("403") == 1
        assert (approved["state"], approved["self_approved"]) == ("approved", False)

    def test_an_operator_suspends_and_resumes(self, printed: Mapping[str, str]) -> None:
        shown = printed["Running the platform"]
        seen, suspended, resumed = answers(shown)

        assert shown.split()[-1] in set(Outcome)
        assert [each["suspended_at"] is None for each in (seen, suspended, resumed)] == [True, False, True]

    def test_two_operators_rotate_the_signing_key(self, printed: Mapping[str, str]) -> None:
        approved, keys = answers(printed["A new signing key"])

        assert approved["state"] == "approved"
        assert [key["state"] for key in keys["items"]] == ["waiting", "signing"]


class TestOperator:
    def test_asked_for_again_is_the_same_person(self, stack: Stack) -> None:
        tokens = [run(stack, "make operator EMAIL=again@assay.example").stdout.strip() for _ in range(2)]

        people = [
            httpx.get(
                stack.url("user_service") + "/v1/users/me",
                headers={"Authorization": f"Bearer {token}"},
                timeout=PATIENCE_S,
            )
            for token in tokens
        ]
        assert {(each.json()["email"], each.json()["role"]) for each in people} == {
            ("again@assay.example", "operator")
        }
        assert len({each.json()["user_id"] for each in people}) == 1

    def test_is_not_made_of_somebody_of_an_institution(self, stack: Stack) -> None:
        login = register_sandbox(stack.url("user_service"), name="Quay Bank")

        refused = run(stack, f"make operator EMAIL={login.email}")

        assert refused.returncode == 1
        assert refused.stdout == ""
        assert "was not made an operator" in refused.stderr


class TestMails:
    def test_the_request_in_a_mail_is_ready_to_be_sent(self, stack: Stack) -> None:
        users = stack.url("user_service")
        login = register_sandbox(users, name="Pier Bank")
        httpx.post(
            f"{users}/v1/auth/password-resets", json={"email": login.email}, timeout=PATIENCE_S
        ).raise_for_status()
        shown = run(stack, adapted(MAIL_FUNCTION, stack.settings) + f"mail {login.email} password").stdout
        command = re.findall(r"^curl .*?\n\s*$", shown, re.DOTALL | re.MULTILINE)[0].strip()

        as_it_is, with_a_password = (
            run(stack, f"{text} -o /dev/null -w '%{{http_code}}'").stdout
            for text in (command, command.replace('"..."', '"a password of my own"'))
        )

        assert as_it_is == "422"
        assert with_a_password == "204"
        assert log_in(users, email=login.email, password="a password of my own")
