from collections.abc import Iterator
from itertools import count

import pytest

from bench.http_wire import WireRequest, post, post_head
from bench.load_outcome import BROKEN, TIMED_OUT, UNSENT
from bench.open_loop import NoConnectionError, even_times, offer_in_loop, random_times
from tests.servers import free_port
from tests.unit.bench.answering import BUSY, OK, answering

HOST = "127.0.0.1"
HEAD = post_head("/v1/score", host=HOST, headers={"Authorization": "Bearer abc"})


def numbered_requests() -> Iterator[WireRequest]:
    for number in count():
        yield WireRequest(f"tx-{number}", post(HEAD, b'{"id": %d}' % number))


class TestTimes:
    def test_even_times_keep_their_distance(self) -> None:
        assert even_times(4, 1, start=2) == [2, 2.25, 2.5, 2.75]

    def test_random_times_keep_their_rate_and_their_bounds(self) -> None:
        due = random_times(1000, 10, start=5)

        assert due == sorted(due)
        assert due[0] >= 5
        assert due[-1] < 15
        assert len(due) == pytest.approx(10_000, rel=0.05)

    def test_the_same_seed_gives_the_same_times(self) -> None:
        assert random_times(100, 1, seed=3) == random_times(100, 1, seed=3)
        assert random_times(100, 1, seed=3) != random_times(100, 1, seed=4)


class TestOffer:
    async def test_every_request_is_sent_once_and_its_id_is_kept(self) -> None:
        async with answering(lambda _number: OK) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), even_times(500, 0.2), connections=4
            )

        assert outcome.statuses == {200: 100}
        assert outcome.acknowledged == [f"tx-{number}" for number in range(100)]
        assert sorted(server.bodies) == sorted(b'{"id": %d}' % number for number in range(100))

    async def test_latency_counts_from_the_time_a_request_was_due(self) -> None:
        due = [0.0, 0.0, 0.0]

        async with answering(lambda number: OK if number else None) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), due, connections=1, timeout_s=0.15
            )

        # the first is never answered, and the others wait for its connection until they are out of time too
        assert outcome.statuses == {TIMED_OUT: 1, UNSENT: 2}
        assert all(sample.latency_ms >= 150 for sample in outcome.samples)

    async def test_a_connection_that_was_given_up_is_replaced(self) -> None:
        due = [0.0, 0.3]

        async with answering(lambda number: OK if number else None) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), due, connections=1, timeout_s=0.1
            )

        assert [sample.status for sample in outcome.samples] == [TIMED_OUT, 200]

    async def test_a_lost_connection_is_told_from_a_timeout_and_replaced(self) -> None:
        due = [0.0, 0.1]

        async with answering(lambda number: OK if number else b"") as server:
            outcome = await offer_in_loop(HOST, server.port, numbered_requests(), due, connections=1)

        assert [sample.status for sample in outcome.samples] == [BROKEN, 200]

    async def test_garbage_counts_as_a_lost_connection(self) -> None:
        async with answering(lambda _number: b"SSH-2.0 hello\r\n\r\n") as server:
            outcome = await offer_in_loop(HOST, server.port, numbered_requests(), [0.0], connections=1)

        assert outcome.statuses == {BROKEN: 1}

    async def test_an_answer_that_closes_its_connection_is_an_answer(self) -> None:
        closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

        async with answering(lambda _number: closing) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), even_times(50, 0.2), connections=1
            )

        assert outcome.statuses == {200: 10}

    async def test_refusals_are_counted_and_looked_at(self) -> None:
        bare = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

        async with answering(lambda number: [OK, BUSY, bare][number % 3]) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), even_times(100, 0.3), connections=3
            )

        assert outcome.statuses == {200: 10, 503: 20}
        assert outcome.impolite(503) == 10
        assert outcome.latency_ms(low=503, high=504).count == 20
        assert outcome.goodput(0.3) == pytest.approx(10 / 0.3)

    async def test_a_part_of_a_run_is_cut_out_by_when_it_was_due(self) -> None:
        async with answering(lambda _number: OK) as server:
            outcome = await offer_in_loop(
                HOST, server.port, numbered_requests(), [0.0, 0.1, 0.2], connections=2
            )

        assert outcome.between(0.1, 0.2).acknowledged == ["tx-1"]

    async def test_nobody_to_connect_to_is_said(self) -> None:
        with pytest.raises(NoConnectionError):
            await offer_in_loop(HOST, free_port(), numbered_requests(), [0.0], connections=2)
