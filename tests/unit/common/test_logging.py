import asyncio
import contextvars
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from common.log_output import unwaited_output
from common.logging import _Later, _Lines, _lines, add_facts, configure_logging, start_request


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a test configures does not outlast it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level


class Lines:
    """What was printed, as JSON objects."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capture.readouterr().out.split("\n")[:-1]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    configure_logging(service="tiny", level="info", json_lines=True)
    return Lines(capsys)


class TestLines:
    def test_are_json_objects_with_time_level_and_service(self, lines: Lines) -> None:
        structlog.get_logger().info("thing.made", count=3)

        (line,) = lines.read()
        assert line.pop("timestamp").endswith("Z")
        assert line == {"event": "thing.made", "count": 3, "level": "info", "service": "tiny"}

    def test_below_the_level_are_not_written(self, lines: Lines) -> None:
        structlog.get_logger().debug("thing.seen")

        assert lines.read() == []

    def test_hold_the_traceback_of_an_exception(self, lines: Lines) -> None:
        try:
            Path("/dev/null/nothing").read_bytes()
        except OSError:
            structlog.get_logger().exception("thing.failed")

        (line,) = lines.read()
        assert "Traceback" in line["exception"]
        assert "NotADirectoryError" in line["exception"]

    def test_are_text_for_a_person_at_a_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging(service="tiny", level="debug", json_lines=False)

        structlog.get_logger().debug("thing.seen", name="a\ud800b")

        printed = capsys.readouterr().out
        assert "thing.seen" in printed
        assert "service=tiny" in printed

    @pytest.mark.parametrize(
        "value",
        [
            "\ud800",
            "a\nb\x1b[31m",
            2**80,
            {1: 2},
            {("a",): 1},
            object(),
            b"bytes",
            float("nan"),
            {"deep": {"\udfff": 1}},
        ],
    )
    def test_are_written_whatever_they_hold(self, lines: Lines, value: object) -> None:
        structlog.get_logger().info("thing.made", value=value)

        (line,) = lines.read()
        assert line["event"] == "thing.made"

    def test_are_written_to_an_output_that_knows_few_characters(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
        configure_logging(service="tiny", level="info", json_lines=True)

        structlog.get_logger().info("thing.made", name="Zoë")
        sys.stdout.flush()

        assert b"thing.made" in raw.getvalue()

    def test_cannot_be_forged_by_what_they_hold(self, lines: Lines) -> None:
        structlog.get_logger().info("thing.made", name='x"}\n{"event":"forged"}\u2028\u0085')

        assert [line["event"] for line in lines.read()] == ["thing.made"]


class TestSecrets:
    @pytest.mark.parametrize(
        "key",
        [
            "password", "new_password", "client_secret", "token", "access_token", "card_token", "Authorization",
            "AUTHORIZATION", "set-cookie", "api_key", "card_number", "signing_key_passphrase", "private_key",
        ],
    )  # fmt: skip
    def test_are_hidden_by_name(self, lines: Lines, key: str) -> None:
        structlog.get_logger().info("thing.made", **{key: "canary"})

        (line,) = lines.read()
        assert line[key] == "[hidden]"

    def test_are_hidden_in_what_a_fact_holds(self, lines: Lines) -> None:
        headers = {"Authorization": "canary", "Accept": "text/html", "more": {"cookie": "canary"}}

        structlog.get_logger().info("thing.made", headers=headers)

        (line,) = lines.read()
        assert line["headers"] == {
            "Authorization": "[hidden]",
            "Accept": "text/html",
            "more": {"cookie": "[hidden]"},
        }
        assert headers["Authorization"] == "canary"

    def test_are_hidden_among_the_facts_of_a_context(self, lines: Lines) -> None:
        with structlog.contextvars.bound_contextvars(refresh_token="canary"):
            structlog.get_logger().info("thing.made")

        assert "canary" not in json.dumps(lines.read())


class TestLibraries:
    def test_log_through_the_same_pipeline(self, lines: Lines) -> None:
        def work() -> None:
            start_request("req-7")
            logging.getLogger("some.library").warning("%d things were %s", 3, "lost")

        contextvars.copy_context().run(work)

        (line,) = lines.read()
        assert line["event"] == "3 things were lost"
        assert (line["level"], line["request_id"]) == ("warning", "req-7")

    def test_are_quiet_below_a_warning(self, lines: Lines) -> None:
        logging.getLogger("some.library").info("chatter")

        assert lines.read() == []

    def test_bring_their_tracebacks(self, lines: Lines) -> None:
        try:
            Path("/dev/null/nothing").read_bytes()
        except OSError:
            logging.getLogger("some.library").exception("it failed")

        (line,) = lines.read()
        assert "NotADirectoryError" in line["exception"]

    @pytest.mark.parametrize(("level", "name"), [(35, "warning"), (45, "error"), (99, "critical")])
    def test_may_have_levels_of_their_own(self, lines: Lines, level: int, name: str) -> None:
        logging.getLogger("some.library").log(level, "odd")

        (line,) = lines.read()
        assert (line["event"], line["level"]) == ("odd", name)

    def test_do_not_fail_because_of_a_bad_log_call(
        self, lines: Lines, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (handler,) = [
            each for each in logging.getLogger().handlers if type(each).__module__ == "common.logging"
        ]
        record = logging.LogRecord("some.library", logging.WARNING, "", 1, "%d things", ("three",), None)

        handler.handle(record)  # by hand: the test runner's own handlers do fail

        assert "--- Logging error ---" in capsys.readouterr().err
        assert lines.read() == []

    def test_may_say_percent(self, lines: Lines) -> None:
        logging.getLogger("some.library").warning("100 % %s of %d")

        assert [line["event"] for line in lines.read()] == ["100 % %s of %d"]


class TestFacts:
    def test_are_collected(self) -> None:
        collected = start_request("req-1").facts

        add_facts(outcome="approve", ms=3)
        add_facts(ms=4)

        assert collected == {"outcome": "approve", "ms": 4}

    def test_of_one_request_are_not_seen_by_another(self) -> None:
        mine = start_request("req-1").facts

        def other() -> dict[str, Any]:
            theirs = start_request("req-1").facts
            add_facts(caller="them")
            return theirs

        theirs = contextvars.copy_context().run(other)
        add_facts(caller="me")

        assert (mine, theirs) == ({"caller": "me"}, {"caller": "them"})

    def test_outside_a_request_go_nowhere(self) -> None:
        contextvars.Context().run(lambda: add_facts(outcome="approve"))


class TestALineWithinALine:
    def test_waits_for_nobody_and_comes_after_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As when garbage is collected in the midst of writing, and what is collected has something to say."""
        configure_logging(service="tiny", level="info", json_lines=True)
        really_put, said = _lines._put, iter(["within"])

        def put(text: str) -> None:
            for event in said:
                logging.getLogger("asyncio").error(event)
                structlog.get_logger().info(event)
            really_put(text)

        monkeypatch.setattr(_lines, "_put", put)
        thread = threading.Thread(target=lambda: structlog.get_logger().info("outer"), daemon=True)
        thread.start()
        thread.join(10)

        assert not thread.is_alive()
        events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
        assert events == ["outer", "within", "within"]


class TestAReaderThatStoodStill:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[int, _Lines]]:
        """A pipe's end to read from, and lines that go to the other one."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        output = unwaited_output(writing)
        assert output is not None
        lines = _Lines()
        lines._unwaited = (sys.stdout, output)
        yield reading, lines
        lines._unwaited = None
        output.close()
        for end in (reading, writing):
            os.close(end)

    @pytest.mark.parametrize("by", ["loop", "thread"])
    async def test_gets_the_rest_although_nothing_more_is_logged(
        self, ends: tuple[int, _Lines], by: str
    ) -> None:
        reading, lines = ends
        text = "".join(f"{number:06d} {'x' * 93}\n" for number in range(2_000))
        _Later.look()
        if by == "loop":
            lines.write(text)
        else:
            await asyncio.to_thread(lines.write, text)
        found = b""
        async with asyncio.timeout(20):
            while len(found) < len(text):
                with suppress(BlockingIOError):
                    found += os.read(reading, 1 << 16)
                await asyncio.sleep(0.01)

        assert found.decode() == text


class TestNoOutputAtAll:
    def test_is_no_reason_to_fail(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)

        configure_logging(service="tiny", level="info", json_lines=True)
        structlog.get_logger().info("unheard")
