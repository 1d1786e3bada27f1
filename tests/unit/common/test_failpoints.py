"""Points that a test arms: they end, fail or delay, exactly where they were told to."""

import asyncio
import signal
import subprocess
import sys
import time

import pytest

from common.failpoints import Action, FailpointError, armed, failpoint, failpoint_async, parse_failpoints

DIES_AT_THE_THIRD_PASS = """
from common.failpoints import armed, failpoint

with armed("decisions.after_commit:kill:3"):
    for number in range(1, 10):
        print(number, flush=True)
        failpoint("decisions.after_commit")
"""


class TestAnUnarmedPoint:
    def test_does_nothing(self) -> None:
        with armed("some.other:error"):
            failpoint("decisions.after_commit")

    def test_is_unarmed_again_after_the_block(self) -> None:
        with armed("decisions.after_commit:error"):
            pass

        failpoint("decisions.after_commit")


class TestError:
    def test_is_raised_at_every_pass(self) -> None:
        with armed("relay.before_send:error"):
            for _ in range(2):
                with pytest.raises(FailpointError, match=r"relay\.before_send"):
                    failpoint("relay.before_send")

    def test_is_raised_at_one_pass_alone_when_its_number_is_given(self) -> None:
        with armed("relay.before_send:error:2"):
            failpoint("relay.before_send")
            with pytest.raises(FailpointError):
                failpoint("relay.before_send")
            failpoint("relay.before_send")


class TestDelay:
    def test_keeps_the_thread_that_passes(self) -> None:
        with armed("relay.before_send:delay:30"):
            started = time.monotonic()
            failpoint("relay.before_send")

            assert time.monotonic() - started >= 0.03


class TestKill:
    def test_ends_the_process_at_the_pass_that_was_named(self) -> None:
        ended = subprocess.run(
            [sys.executable, "-c", DIES_AT_THE_THIRD_PASS], capture_output=True, text=True, check=False
        )

        assert ended.returncode == -signal.SIGKILL
        assert [line for line in ended.stdout.splitlines() if line.isdigit()] == ["1", "2", "3"]


class TestParseFailpoints:
    def test_takes_several(self) -> None:
        points = parse_failpoints("decisions.after_commit:kill:3, relay.before_send:delay:200")

        assert [(point.name, point.action, point.number) for point in points] == [
            ("decisions.after_commit", Action.KILL, 3),
            ("relay.before_send", Action.DELAY, 200),
        ]

    @pytest.mark.parametrize("text", ["", "  "])
    def test_takes_nothing(self, text: str) -> None:
        assert parse_failpoints(text) == ()

    @pytest.mark.parametrize(
        "text",
        [
            "decisions.after_commit",
            "decisions.after_commit:explode",
            "decisions.after_commit:kill:0",
            "decisions.after_commit:kill:-1",
            "decisions.after_commit:kill:x",
            "relay.before_send:delay",
            "nodot:kill",
            ":kill",
            "a.b:kill,",
        ],
    )
    def test_refuses_what_it_cannot_read(self, text: str) -> None:
        with pytest.raises(ValueError, match="FAILPOINTS is a list"):
            parse_failpoints(text)


class TestOnAnEventLoop:
    async def test_a_delay_keeps_who_passes_and_nobody_else(self) -> None:
        with armed("relay.before_send:delay:200"):
            passing = asyncio.ensure_future(failpoint_async("relay.before_send"))
            others = [await asyncio.sleep(0, number) for number in range(10)]
            is_kept = not passing.done()
            await passing

        assert others == list(range(10))
        assert is_kept

    async def test_an_error_is_raised_where_it_is_passed(self) -> None:
        with armed("relay.before_send:error"), pytest.raises(FailpointError):
            await failpoint_async("relay.before_send")

    async def test_one_that_is_not_armed_does_nothing(self) -> None:
        await failpoint_async("relay.before_send")
