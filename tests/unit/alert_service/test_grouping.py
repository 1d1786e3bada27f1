import pytest

from alert_service.notifications.grouping import MAX_UNTOLD_MAILS, Waiting, mails_to_make, ripe_in_ms

NOW_MS = 1_000_000


def waiting(count: int, *, for_ms: int = 0, untold_mails: int = 0) -> Waiting:
    return Waiting("ins_1", count, NOW_MS - for_ms, untold_mails)


def made(found: Waiting) -> int:
    return mails_to_make(found, now_ms=NOW_MS, collect_ms=1000, max_alerts=50)


class TestMailsToMake:
    @pytest.mark.parametrize(
        ("count", "for_ms", "expected"),
        [
            (1, 999, 0),  # still collecting
            (1, 1000, 1),
            (49, 999, 0),
            (50, 0, 1),  # a full mail waits for nothing
            (70, 0, 1),  # and its rest does
            (70, 1000, 2),
            (100, 1000, 2),
        ],
    )
    def test_a_mail_is_made_when_it_is_full_or_its_first_alert_waited(
        self, count: int, for_ms: int, expected: int
    ) -> None:
        assert made(waiting(count, for_ms=for_ms)) == expected

    @pytest.mark.parametrize(("untold", "expected"), [(0, 4), (1, 3), (MAX_UNTOLD_MAILS, 0), (9, 0)])
    def test_only_a_few_mails_wait_at_a_time_and_further_alerts_wait_to_share_the_next(
        self, untold: int, expected: int
    ) -> None:
        assert made(waiting(1000, for_ms=5000, untold_mails=untold)) == expected

    def test_a_clock_that_was_set_back_holds_up_nothing(self) -> None:
        assert made(waiting(1, for_ms=-60_000)) == 1


class TestRipeIn:
    @pytest.mark.parametrize(("for_ms", "expected"), [(0, 1000), (400, 600), (1000, 0), (5000, 0), (-1, 0)])
    def test_counts_from_the_first_alert(self, for_ms: int, expected: int) -> None:
        assert ripe_in_ms(waiting(1, for_ms=for_ms), now_ms=NOW_MS, collect_ms=1000) == expected
