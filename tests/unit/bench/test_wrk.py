import asyncio
import shutil
from datetime import date
from pathlib import Path

import pytest

from bench.http_wire import post_head
from bench.stream import load_stream, make_id
from bench.wrk import read_result, run_wrk
from tests.unit.bench.answering import OK, answering

LINE = (
    'RESULT {"answers": 100, "refused": 10, "timeouts": 2, "broken": 1, "seconds": 2.0, "p50_ms": 1.5, '
    '"p90_ms": 2.5, "p99_ms": 9.0}'
)


class TestReadResult:
    def test_what_was_refused_is_not_acknowledged(self) -> None:
        run = read_result(f"Running 2s test\n{LINE}\nRequests/sec: 50\n", tag="b0001", client_cpu_s=0.5)

        assert run is not None
        assert (run.acknowledged, run.refused, run.unanswered) == (90, 10, 3)
        assert run.rate == 45
        assert (run.p50_ms, run.p90_ms, run.p99_ms, run.client_cpu_s) == (1.5, 2.5, 9.0, 0.5)

    def test_no_result_is_no_run(self) -> None:
        assert read_result("unable to connect", tag="b0001", client_cpu_s=0.0) is None


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is installed by `make bench`")
class TestRunWrk:
    async def test_it_sends_the_bodies_that_the_stream_makes(self, tmp_path: Path) -> None:
        stream = load_stream(tmp_path / "stream.txt", customers=50, today=date(2026, 11, 20))
        head = tmp_path / "head"
        head.write_bytes(post_head("/v1/score", host="127.0.0.1", headers={}))
        stream.take(len(stream.templates) - 10)  # so that the run crosses a day's end

        async with answering(lambda _number: OK) as server:
            run = await asyncio.to_thread(
                run_wrk,
                f"http://127.0.0.1:{server.port}/v1/score",
                stream,
                tag="b0001",
                head_file=head,
                connections=1,
                seconds=1,
                core=0,
            )

        first = len(stream.templates) - 10
        wanted = {
            stream.body(make_id("b0001", position), position)
            for position in range(first, first + len(server.bodies) + 2)
        }
        assert run.acknowledged > 20
        assert set(server.bodies) <= wanted
        assert stream.position >= first + run.acknowledged
