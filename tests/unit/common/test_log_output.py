import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from common import log_output
from common.log_output import DROPPED, WHOLE_BYTES, UnwaitedOutput, unwaited_output

A_LOT = 3_000


def over(descriptor: int) -> UnwaitedOutput:
    found = unwaited_output(descriptor)
    assert found is not None
    return found


class Pipe:
    """Both ends of a pipe, which nobody reads by itself."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self._outputs: list[UnwaitedOutput] = []

    def output(self) -> UnwaitedOutput:
        self._outputs.append(over(self.writing))
        return self._outputs[-1]

    def close(self) -> None:
        for output in self._outputs:
            output.close()
        for end in (self.reading, self.writing):
            with suppress(OSError):  # a test closes one
                os.close(end)

    def read(self) -> bytes:
        found = b""
        try:
            while part := os.read(self.reading, 1 << 16):
                found += part
        except BlockingIOError:
            pass
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as ends:
        yield ends


def line(number: int) -> str:
    return f"{number:06d} {'x' * 93}\n"


def dropped() -> float:
    return float(DROPPED._value.get())


class TestAPipe:
    def test_gets_lines_at_once_while_it_is_read(self, pipe: Pipe) -> None:
        output = pipe.output()

        output.write("one\ntwo\n")

        assert pipe.read() == b"one\ntwo\n"
        assert output.waiting == 0

    def test_gets_the_rest_in_order_once_it_is_read_again(self, pipe: Pipe) -> None:
        output = pipe.output()

        for number in range(A_LOT):
            output.write(line(number))
        waiting = output.waiting
        found = pipe.read()
        while output.waiting:
            output.write("")
            found += pipe.read()

        assert waiting > A_LOT / 2
        assert found.decode() == "".join(map(line, range(A_LOT)))

    def test_loses_the_oldest_lines_beyond_a_bound_and_counts_them(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_output, "MAX_WAITING_BYTES", 5_000)
        output, before = pipe.output(), dropped()

        for number in range(A_LOT):
            output.write(line(number))
        found = pipe.read()
        output.write("")
        found += pipe.read()

        numbers = [int(each.split()[0]) for each in found.decode().splitlines()]
        assert numbers[-49:] == list(range(A_LOT - 49, A_LOT))
        assert numbers == sorted(numbers)
        assert dropped() - before == A_LOT - len(numbers) > 0

    def test_keeps_a_line_whole_that_is_longer_than_it_takes_at_once(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_output, "MAX_WAITING_BYTES", 20 * WHOLE_BYTES)
        output, before = pipe.output(), dropped()
        giant = "y" * 50 * WHOLE_BYTES + "\n"

        for text in (giant, "lost\n", "lost too\n", "kept\n"):
            output.write(text)
        found = pipe.read()
        while output.waiting:
            output.write("")
            found += pipe.read()

        assert found.decode() == giant + "kept\n"
        assert dropped() - before == 2

    def test_that_has_no_room_now_for_another_reason_is_tried_again(self) -> None:
        full = OSError(errno.ENOBUFS, "no buffer space")
        answers: list[Exception | None] = [full, None]
        taken: list[bytes] = []

        def write(data: bytes) -> int:
            if (answer := answers.pop(0)) is not None:
                raise answer
            taken.append(data)
            return len(data)

        output = UnwaitedOutput(-1, write, lambda: None)
        output.write("one\n")
        output.write("")

        assert taken == [b"one\n"]
        assert output.waiting == 0

    def test_whose_reader_is_gone_takes_everything_and_it_is_counted(self, pipe: Pipe) -> None:
        output, before = pipe.output(), dropped()
        os.close(pipe.reading)

        output.write("one\ntwo\n")

        assert output.waiting == 0
        assert dropped() - before == 2

    def test_waits_for_others_as_before(self, pipe: Pipe) -> None:
        pipe.output()

        assert os.get_blocking(pipe.writing)

    def test_is_given_the_last_lines_for_a_moment_alone(self, pipe: Pipe) -> None:
        output = pipe.output()
        for number in range(A_LOT):
            output.write(line(number))
        began = time.monotonic()

        output.finish(timeout_s=0.2)

        assert time.monotonic() - began >= 0.2
        assert output.waiting > 0


class TestASocket:
    def test_is_not_waited_for_either(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, closing(over(ours.fileno())) as output:
            for number in range(10 * A_LOT):
                output.write(line(number))

            assert output.waiting > 0
            assert theirs.recv(len(line(0))).decode() == line(0)
            assert os.get_blocking(ours.fileno())


class TestAFile:
    def test_is_written_to_as_ever(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("wb") as file:
            assert unwaited_output(file.fileno()) is None
