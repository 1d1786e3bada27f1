"""Admission, against a pretended server under a clock of its own: everything here is exact and takes no time."""

from collections import deque

import pytest
from prometheus_client import REGISTRY

from common.admission import Admission
from common.errors import OverloadedError

STEP_S = 0.001
TARGET_S = 0.1


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Finishes what was let in, oldest first, at a settable rate; counts who was refused and how long others took."""

    def __init__(self, *, rate: float, floor: int = 64, start: int = 256, most: int = 1024) -> None:
        self.clock = Clock()
        self.rate = rate
        self.admission = Admission(
            work="test", target_s=TARGET_S, floor=floor, start=start, most=most, clock=self.clock
        )
        self.begun: deque[float] = deque()
        self.credit = self.offered = 0.0
        self.answered: list[float] = []
        self.refused = 0

    def run(self, seconds: float, *, offered: float) -> None:
        """Offer `offered` requests a second for a while."""
        self.answered, self.refused = [], 0
        for _ in range(round(seconds / STEP_S)):
            self.clock.now += STEP_S
            self._finish()
            self.offered += offered * STEP_S
            while self.offered >= 1:
                self.offered -= 1
                self._arrive()

    def _finish(self) -> None:
        self.credit = self.credit + self.rate * STEP_S if self.begun else 0.0
        while self.credit >= 1 and self.begun:
            self.credit -= 1
            self.answered.append(self.clock.now - self.begun.popleft())
            self.admission.leave()

    def _arrive(self) -> None:
        try:
            self.admission.enter()
        except OverloadedError:
            self.refused += 1
        else:
            self.begun.append(self.clock.now)


def hold(admission: Admission, count: int) -> None:
    for _ in range(count):
        admission.enter()


class TestPlace:
    def test_is_given_back_when_the_block_ends(self) -> None:
        admission = Admission(work="test", floor=1, most=1)

        for _ in range(3):
            with admission.place():
                assert admission.in_flight == 1

        assert admission.in_flight == 0

    def test_is_given_back_when_the_block_fails(self) -> None:
        admission = Admission(work="test", floor=1, most=1)

        with pytest.raises(KeyError), admission.place():
            raise KeyError

        assert admission.in_flight == 0

    def test_is_refused_when_none_is_left(self) -> None:
        admission = Admission(work="test", floor=1, most=2)
        hold(admission, 2)

        with pytest.raises(OverloadedError) as refused, admission.place():
            pytest.fail("there was no place")

        assert refused.value.headers == {"Retry-After": "1"}
        assert admission.in_flight == 2

    def test_is_there_again_after_a_refusal_when_one_is_given_back(self) -> None:
        admission = Admission(work="test", floor=1, most=1)
        hold(admission, 1)
        with pytest.raises(OverloadedError):
            admission.enter()

        admission.leave()

        with admission.place():
            assert admission.in_flight == 1

    @pytest.mark.parametrize(("start", "most", "limit"), [(256, 1024, 256), (256, 3, 3), (10, 1024, 128)])
    def test_the_first_limit_lies_between_the_floor_and_the_most(
        self, start: int, most: int, limit: int
    ) -> None:
        assert Admission(work="test", start=start, most=most).limit == limit

    def test_places_limit_and_refusals_are_metrics(self) -> None:
        admission = Admission(work="measured", floor=1, most=1)
        hold(admission, 1)
        with pytest.raises(OverloadedError):
            admission.enter()

        seen = {
            name: REGISTRY.get_sample_value(f"assay_admission_{name}", {"work": "measured"})
            for name in ("in_flight", "limit", "refused_total")
        }

        assert seen == {"in_flight": 1, "limit": 1, "refused_total": 1}


class TestArrive:
    def test_takes_no_more_than_there_are_places_though_none_of_them_has_come_to_its_place(self) -> None:
        admission = Admission(work="test", floor=1, start=2, most=2)

        assert [admission.arrive() for _ in range(4)] == [True, True, False, False]
        assert admission.in_flight == 0

    def test_counts_a_request_once_that_arrived_and_has_its_place(self) -> None:
        admission = Admission(work="test", floor=1, start=2, most=2)
        admission.arrive()
        admission.enter()

        assert admission.arrive()
        admission.enter()

    def test_finds_no_place_while_work_goes_on_whose_requests_were_answered(self) -> None:
        admission = Admission(work="test", floor=1, start=1, most=1)
        admission.arrive()
        admission.enter()
        admission.depart()

        assert not admission.arrive()

        admission.leave()
        assert admission.arrive()

    def test_that_is_refused_is_not_counted_as_there(self) -> None:
        admission = Admission(work="test", floor=1, start=1, most=1)
        admission.arrive()
        admission.arrive()

        admission.depart()

        assert admission.arrive()

    def test_that_is_refused_lets_the_limit_grow(self) -> None:
        clock = Clock()
        admission = Admission(work="test", floor=1, start=1, most=8, clock=clock)
        for _ in range(200):
            admission.arrive()
            admission.enter()
            admission.arrive()
            clock.now += STEP_S
            admission.leave()
            admission.depart()

        assert admission.limit > 1


class TestLimit:
    @pytest.mark.parametrize("rate", [1000, 3000])
    @pytest.mark.parametrize("overload", [1.2, 2, 5, 20])
    def test_lets_in_what_is_finished_in_time_and_no_more(self, rate: float, overload: float) -> None:
        server = Server(rate=rate)
        server.run(2, offered=rate * overload)

        server.run(2, offered=rate * overload)

        assert max(server.answered) <= 1.2 * TARGET_S
        assert len(server.answered) >= 0.99 * 2 * rate
        assert server.refused == pytest.approx(2 * rate * (overload - 1), rel=0.05)

    def test_refuses_nobody_below_capacity(self) -> None:
        server = Server(rate=1000)

        server.run(5, offered=900)

        assert server.refused == 0

    def test_never_passes_the_most(self) -> None:
        server = Server(rate=100_000, most=300)

        server.run(3, offered=200_000)

        assert server.admission.limit == 300

    def test_grows_when_it_is_reached_though_the_work_is_quick(self) -> None:
        server = Server(rate=5000, start=64)

        server.run(1, offered=20_000)

        assert server.admission.limit >= 0.95 * 5000 * TARGET_S

    def test_stays_when_it_was_not_reached(self) -> None:
        server = Server(rate=5000)

        server.run(5, offered=10)

        assert server.admission.limit == 256

    def test_is_not_lowered_by_a_few_that_take_long(self) -> None:
        server = Server(rate=2)

        server.run(3, offered=4)

        assert server.admission.limit == 256


class TestStall:
    def test_lowers_the_limit_while_nothing_at_all_is_finished(self) -> None:
        server = Server(rate=3000)
        server.run(2, offered=6000)
        before = server.admission.limit
        server.rate = 0

        server.run(1, offered=6000)

        assert before > 200
        assert server.admission.limit == 64

    def test_that_only_slows_the_work_lowers_it_to_what_is_finished_in_time(self) -> None:
        server = Server(rate=5000)
        server.run(2, offered=10_000)
        server.rate = 1000

        server.run(2, offered=10_000)

        assert server.admission.limit == pytest.approx(100, abs=10)

    def test_never_lowers_it_below_the_floor(self) -> None:
        server = Server(rate=10, floor=20)

        server.run(10, offered=1000)

        assert server.admission.limit == 20

    @pytest.mark.parametrize("stall_s", [0.3, 3, 60])
    def test_is_got_over_within_five_seconds(self, stall_s: float) -> None:
        server = Server(rate=3000)
        server.run(2, offered=6000)
        before = server.admission.limit
        server.rate = 0
        server.run(stall_s, offered=6000)
        server.rate = 3000

        server.run(5, offered=6000)
        recovered = server.admission.limit
        server.run(1, offered=2900)

        assert recovered >= 0.9 * before
        assert server.refused == 0

    def test_in_which_nobody_asked_is_got_over_as_well(self) -> None:
        server = Server(rate=0)
        server.run(0.05, offered=6000)
        server.clock.now += 60
        server.rate = 3000

        server.run(5, offered=6000)

        assert server.admission.limit >= 0.9 * 3000 * TARGET_S
