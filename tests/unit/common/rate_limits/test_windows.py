import pytest

from common.rate_limits.storage import BoundedStorage
from common.rate_limits.windows import Policy, Window
from tests.unit.common.rate_limits.clocks import Clock

POLICY = Policy("address", 100, 60)


class TestPolicy:
    def test_is_described_as_the_draft_has_it(self) -> None:
        assert POLICY.described == b'"address";q=100;w=60'

    def test_states_what_is_left(self) -> None:
        assert POLICY.stated(left=50, reset_s=30) == b'"address";r=50;t=30'


class TestWindow:
    @pytest.mark.parametrize(
        ("window", "left"),
        [
            (Window(0, 0, 60.0), 100),
            (Window(0, 40, 60.0), 60),
            (Window(100, 0, 30.0), 50),
            (Window(100, 50, 30.0), 0),
            (Window(100, 90, 59.0), 0),
        ],
    )
    def test_says_how_many_are_left(self, window: Window, left: int) -> None:
        assert window.left(POLICY) == left

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    @pytest.mark.parametrize("began", [0.0, 0.25, 13.0, 59.5])
    def test_says_when_one_more_is_allowed(self, limit: int, began: float) -> None:
        clock = Clock(1200.0 + began)
        storage = BoundedStorage(max_keys=10, clock=clock)
        policy = Policy("address", limit, 60)
        while storage.spend("key", limit, 60) >= 0:
            pass
        previous, _, current, ends_in_s = storage.get_sliding_window("key", 60)

        wait_s = Window(previous, current, ends_in_s - 60).wait_s(policy)

        clock.now += wait_s - 1.001
        assert storage.spend("key", limit, 60) == -1
        clock.now += 1.002
        assert storage.spend("key", limit, 60) >= 0

    def test_says_so_too_while_only_the_window_before_is_in_the_way(self) -> None:
        window = Window(previous=100, current=60, ends_in_s=30.0)

        assert window.wait_s(POLICY) == 6

    def test_never_says_to_wait_for_nothing(self) -> None:
        assert Window(0, 0, 60.0).wait_s(POLICY) == 1
