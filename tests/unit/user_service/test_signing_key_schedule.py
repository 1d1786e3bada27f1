import pytest

from common.auth.gate import LEEWAY_S, MAX_LIFETIME_S
from common.auth.keys import REFRESH_S
from user_service.signing_keys.schedule import KeyState, KeyTimes, is_due, plan_rotation
from user_service.times import DAY_MS

NOW_MS = 1_800_000_000_000


class TestPlanRotation:
    def test_lets_every_service_fetch_the_key_before_it_signs(self) -> None:
        plan = plan_rotation(now_ms=NOW_MS, at_once=False)

        assert plan.signs_from_ms >= NOW_MS + 3 * REFRESH_S * 1000

    def test_keeps_the_old_key_until_its_last_token_has_expired(self) -> None:
        plan = plan_rotation(now_ms=NOW_MS, at_once=False)

        assert plan.old_retired_at_ms == plan.signs_from_ms + (MAX_LIFETIME_S + LEEWAY_S) * 1000

    def test_leaves_no_overlap_when_it_is_at_once(self) -> None:
        plan = plan_rotation(now_ms=NOW_MS, at_once=True)

        assert (plan.signs_from_ms, plan.old_retired_at_ms) == (NOW_MS, NOW_MS)


class TestKeyTimes:
    @pytest.mark.parametrize(
        ("now_ms", "newest", "state"),
        [
            (100, True, KeyState.WAITING),
            (199, False, KeyState.WAITING),
            (200, True, KeyState.SIGNING),
            (200, False, KeyState.RETIRING),
            (299, True, KeyState.SIGNING),
            (300, True, KeyState.RETIRED),
            (300, False, KeyState.RETIRED),
        ],
    )
    def test_go_through_their_states_on_the_millisecond(
        self, now_ms: int, state: KeyState, *, newest: bool
    ) -> None:
        times = KeyTimes(100, signs_from_ms=200, retired_at_ms=300)

        assert times.state(now_ms, is_newest_that_may_sign=newest) is state

    def test_have_no_end_until_one_is_set(self) -> None:
        assert KeyTimes(100, 200).is_published(NOW_MS)


class TestIsDue:
    @pytest.mark.parametrize(
        ("age_ms", "days", "due"),
        [
            (90 * DAY_MS - 1, 90, False),
            (90 * DAY_MS, 90, True),
            (10_000 * DAY_MS, 0, False),
        ],
    )
    def test_says_when_a_key_is_as_old_as_it_may_get(self, age_ms: int, days: int, *, due: bool) -> None:
        newest = KeyTimes(NOW_MS - age_ms, NOW_MS - age_ms)

        assert is_due(newest, days=days, now_ms=NOW_MS) is due
