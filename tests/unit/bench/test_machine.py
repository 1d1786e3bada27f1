import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import machine
from bench.errors import BenchError
from bench.machine import (
    Cores,
    alone,
    choose_cores,
    cpu_by_name,
    cpu_seconds,
    family,
    fdatasync_ms,
    idle_share,
    pin,
)


class TestAlone:
    def test_a_second_bench_is_refused_while_the_first_runs(self, tmp_path: Path) -> None:
        lock = tmp_path / "lock"

        with alone(lock), pytest.raises(BenchError, match="Another bench runs"), alone(lock):
            pass  # never reached

        with alone(lock):
            assert lock.exists()


class TestPin:
    def test_every_thread_stays_on_the_core(self) -> None:
        cores, ready, stop = choose_cores(), threading.Event(), threading.Event()

        def wait() -> None:
            ready.set()
            stop.wait(10)

        thread = threading.Thread(target=wait)
        thread.start()
        ready.wait(10)
        before = os.sched_getaffinity(0)
        try:
            pin(os.getpid(), cores.server)
            seen = {
                thread.native_id: os.sched_getaffinity(thread.native_id or 0)
                for thread in threading.enumerate()
            }
        finally:
            for task in Path("/proc/self/task").iterdir():
                os.sched_setaffinity(int(task.name), before)
            stop.set()
            thread.join()

        assert set(map(frozenset, seen.values())) == {frozenset({cores.server})}


class TestMeasuring:
    def test_cpu_time_only_grows(self) -> None:
        first = cpu_seconds(os.getpid())
        while machine.cpu_seconds(os.getpid()) < first + 0.02:
            sum(range(10_000))

        assert cpu_seconds(os.getpid()) > first

    def test_idleness_is_a_share(self) -> None:
        assert 0 <= idle_share(0.05) <= 1

    def test_a_durable_write_takes_time(self, tmp_path: Path) -> None:
        assert fdatasync_ms(tmp_path / "new") > 0

    def test_one_core_for_both_is_told(self) -> None:
        assert Cores(0, 1).are_apart
        assert not Cores(0, 0).are_apart


PARENT = """
import subprocess, sys
work = "sum(range(6_000_000))"
subprocess.run([sys.executable, "-c", work], check=True)
child = subprocess.Popen([sys.executable, "-c", work + "; print(flush=True); input()"], stdin=subprocess.PIPE)
sys.stdin.read()
child.kill()
child.wait()
"""


class TestFamily:
    @pytest.fixture
    def parent(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that has one child that works no more, and one that has ended; it did nothing itself."""
        with subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None
            assert running.stdout.readline()
            yield running
            running.communicate(timeout=30)

    def test_holds_what_a_process_started(self, parent: "subprocess.Popen[bytes]") -> None:
        found = family(parent.pid)

        assert found[0] == parent.pid
        assert len(found) == 2

    def test_uses_the_time_of_all_also_of_those_that_ended(self, parent: "subprocess.Popen[bytes]") -> None:
        used = cpu_by_name({"server": parent.pid})["server"]

        alive = sum(map(cpu_seconds, family(parent.pid)))
        assert used > alive > cpu_seconds(parent.pid)

    def test_stays_on_the_core_that_its_head_is_given(self, parent: "subprocess.Popen[bytes]") -> None:
        core = choose_cores().server

        pin(parent.pid, core)

        assert [os.sched_getaffinity(pid) for pid in family(parent.pid)] == [{core}] * 2
