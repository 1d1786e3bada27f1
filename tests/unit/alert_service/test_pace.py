from alert_service.notifications.pace import Pace


def recovered() -> Pace:
    pace = Pace(lanes=8)
    pace.taken()
    return pace


class TestLanes:
    def test_all_are_open_at_the_start(self) -> None:
        assert Pace(lanes=8).lanes(0.0) == 8

    def test_none_is_open_during_a_pause_and_one_after_it(self) -> None:
        pace = recovered()

        pace.not_reached(0.0, pause_s=10.0)

        assert pace.lanes(9.9) == 0
        assert pace.lanes(10.0) == 1

    def test_mails_that_fail_together_count_as_one_failure(self) -> None:
        pace = recovered()

        pace.not_reached(0.0, pause_s=10.0)
        pace.not_reached(1.0, pause_s=20.0)

        assert pace.lanes(10.0) == 1
        assert pace.unreachable == 1

    def test_a_probe_that_fails_after_the_pause_counts(self) -> None:
        pace = recovered()

        pace.not_reached(0.0, pause_s=10.0)
        pace.not_reached(10.0, pause_s=20.0)

        assert pace.lanes(29.9) == 0
        assert pace.unreachable == 2

    def test_all_are_open_again_once_the_server_is_there(self) -> None:
        taken, refused = recovered(), recovered()
        for pace in (taken, refused):
            pace.not_reached(0.0, pause_s=10.0)

        taken.taken()
        refused.not_taken()

        assert taken.lanes(0.0) == refused.lanes(0.0) == 8
        assert taken.unreachable == refused.unreachable == 0

    def test_trouble_with_single_mails_pauses_nobody(self) -> None:
        pace = recovered()

        for _ in range(10):
            pace.not_taken()

        assert pace.lanes(0.0) == 8


class TestTaken:
    def test_the_first_success_of_a_process_wakes_what_waits_from_before(self) -> None:
        assert Pace(lanes=8).taken()

    def test_success_after_an_outage_wakes_what_waits(self) -> None:
        pace = recovered()
        pace.not_reached(0.0, pause_s=1.0)
        pace.not_reached(1.0, pause_s=1.0)

        assert pace.taken()
        assert not pace.taken()

    def test_one_odd_mail_among_good_ones_is_not_woken_by_each_of_them(self) -> None:
        pace = recovered()
        pace.not_taken()

        assert not pace.taken()
