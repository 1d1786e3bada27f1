"""What counts as lost, as a duplicate, and as done."""

from dataclasses import replace

from local_stack.tally import Acknowledgement, Kept, Tally, alert_id, alert_ids_in, tally

PLAIN = Acknowledgement("tx-1", "dec_1", flagged=False)
FLAGGED = Acknowledgement("tx-2", "dec_2", flagged=True)
KEPT = [Kept("tx-1", "dec_1"), Kept("tx-2", "dec_2")]
ALERT = "alr_2"


class TestTally:
    def test_counts_everything_that_arrived_once(self) -> None:
        found = tally([PLAIN, FLAGGED], saved=KEPT, archived=KEPT, mails=[{ALERT}])

        assert found == Tally(
            acknowledged=2, saved=2, archived=2, alerts_expected=1, alerts_delivered=1, lost=0, duplicates=0
        )
        assert found.holds

    def test_a_decision_missing_in_the_database_is_lost(self) -> None:
        found = tally([PLAIN, FLAGGED], saved=KEPT[:1], archived=KEPT, mails=[{ALERT}])

        assert (found.saved, found.lost) == (1, 1)
        assert not found.holds

    def test_a_decision_missing_in_the_archive_is_lost(self) -> None:
        found = tally([PLAIN, FLAGGED], saved=KEPT, archived=KEPT[1:], mails=[{ALERT}])

        assert (found.archived, found.lost) == (1, 1)

    def test_a_decision_missing_in_both_is_lost_once(self) -> None:
        found = tally([PLAIN], saved=[], archived=[], mails=[])

        assert found.lost == 1

    def test_another_decision_for_the_same_transaction_does_not_count_as_the_one_answered(self) -> None:
        found = tally([PLAIN], saved=[Kept("tx-1", "dec_9")], archived=[Kept("tx-1", "dec_9")], mails=[])

        assert found.lost == 1

    def test_an_expected_alert_that_no_mail_names_is_lost(self) -> None:
        found = tally([PLAIN, FLAGGED], saved=KEPT, archived=KEPT, mails=[set()])

        assert (found.alerts_expected, found.alerts_delivered, found.lost) == (1, 0, 1)

    def test_a_transaction_saved_twice_is_a_duplicate(self) -> None:
        found = tally([PLAIN], saved=[KEPT[0], Kept("tx-1", "dec_9")], archived=KEPT[:1], mails=[])

        assert (found.saved, found.duplicates, found.lost) == (1, 1, 0)

    def test_a_record_archived_twice_is_a_duplicate(self) -> None:
        found = tally([PLAIN], saved=KEPT[:1], archived=[KEPT[0], KEPT[0]], mails=[])

        assert (found.archived, found.duplicates) == (1, 1)

    def test_an_alert_in_two_mails_is_one_duplicate(self) -> None:
        found = tally([FLAGGED], saved=KEPT[1:], archived=KEPT[1:], mails=[{ALERT}, {ALERT}, {ALERT}])

        assert (found.alerts_delivered, found.duplicates) == (1, 1)

    def test_an_alert_nobody_expected_breaks_it(self) -> None:
        found = tally([PLAIN], saved=KEPT[:1], archived=KEPT[:1], mails=[{"alr_9"}])

        assert found.is_complete
        assert not found.holds

    def test_a_decision_nobody_was_told_of_breaks_it(self) -> None:
        found = tally([PLAIN], saved=KEPT, archived=KEPT, mails=[])

        assert found.is_complete
        assert not found.holds

    def test_the_same_answer_twice_is_one_transaction(self) -> None:
        found = tally([PLAIN, replace(PLAIN)], saved=KEPT[:1], archived=KEPT[:1], mails=[])

        assert found.acknowledged == 1
        assert found.holds


class TestAlertIds:
    def test_are_found_in_the_text_of_a_mail(self) -> None:
        first, second = "alr_" + "0a" * 13, "alr_" + "9z" * 13

        found = alert_ids_in(f"Alert {first}: decline.\n({second})\n{first} again, and alr_short")

        assert found == {first, second}

    def test_follow_from_the_decision(self) -> None:
        assert alert_id("dec_01abc") == "alr_01abc"
