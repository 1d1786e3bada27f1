import re

import pytest

from common.clock import epoch_ms, utc_now
from common.ids import made_at_ms, new_id


class TestNewId:
    def test_says_what_it_names(self) -> None:
        assert re.fullmatch(r"dec_[0-9a-hjkmnp-tv-z]{26}", new_id("dec"))

    def test_is_never_the_same_twice(self) -> None:
        assert len({new_id("x") for _ in range(10_000)}) == 10_000

    def test_sorts_by_the_millisecond_it_was_made_in(self) -> None:
        earlier = new_id("x")
        made_at = epoch_ms()
        while epoch_ms() == made_at:
            pass

        assert earlier < new_id("x")


class TestMadeAt:
    def test_is_the_millisecond_in_which_it_was_made(self) -> None:
        before, made, after = epoch_ms(), made_at_ms(new_id("dec")), epoch_ms()

        assert made is not None
        assert before <= made <= after

    @pytest.mark.parametrize("identifier", ["", "dec_1", "dec_" + "u" * 26, "dec_" + "0" * 25, "ins_test"])
    def test_of_what_was_made_elsewhere_is_not_known(self, identifier: str) -> None:
        assert made_at_ms(identifier) is None


class TestClock:
    def test_both_views_of_it_agree(self) -> None:
        before, now, after = epoch_ms(), utc_now(), epoch_ms()

        assert before <= now.timestamp() * 1000 <= after + 1
        assert now.utcoffset() is not None
        assert now.tzname() == "UTC"
