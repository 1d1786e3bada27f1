from dataclasses import replace

import pytest

from tests.faults.invariants import Breach
from tests.unit.faults.worlds import (
    NOTICE,
    OURS,
    archived_event,
    good_world,
    mailed,
    make_event,
    object_key,
)

FIRST, SECOND = make_event(1), make_event(2)
A_MAIL = mailed(notice_ids=frozenset({NOTICE.notice_id}))


class TestEvents:
    def test_nothing_is_found_where_every_promise_was_kept(self) -> None:
        assert good_world().breaches(registered=[OURS]) == []

    def test_nothing_is_said_where_nobody_looked(self) -> None:
        world = good_world().with_found(events=None, archived_events=None, notices=None, notice_mails=None)

        assert world.breaches(registered=["ins_other"]) == []

    def test_a_registration_that_was_answered_has_its_event(self) -> None:
        found = good_world().breaches(registered=[OURS, "ins_lost"])

        assert found == [Breach("I1", "registered without an event", ("ins_lost",))]

    def test_one_that_is_not_archived_is_found(self) -> None:
        world = good_world().with_found(archived_events=[archived_event(FIRST)])

        assert world.breaches() == [Breach("I2", "an event is not archived", (SECOND.event_id,))]

    def test_one_that_is_archived_twice_is_found(self) -> None:
        lines = [archived_event(each) for each in (FIRST, SECOND)]
        twice = archived_event(SECOND, key=object_key(kind="identity", number=3))

        (breach,) = good_world().with_found(archived_events=[*lines, twice]).breaches()

        assert breach.what == "an event is archived more than once"
        assert breach.ids == (SECOND.event_id, lines[1].key, twice.key)

    def test_other_bytes_are_found(self) -> None:
        changed = replace(archived_event(SECOND), line=b"{}")

        (breach,) = good_world().with_found(archived_events=[archived_event(FIRST), changed]).breaches()

        assert (breach.invariant, breach.what) == ("I2", "an event is archived with other bytes")

    def test_one_without_its_row_is_found(self) -> None:
        lines = [archived_event(each) for each in (FIRST, SECOND, make_event(3))]

        (breach,) = good_world().with_found(archived_events=lines).breaches()

        assert (breach.invariant, breach.what) == ("I4", "an event is archived and not saved")

    def test_a_gap_is_found(self) -> None:
        third = replace(SECOND, sequence=3)

        found = good_world().with_found(events=[FIRST, third]).breaches()

        assert found == [Breach("I6", "missing numbers of events", (OURS, "2"))]


class TestNotices:
    def test_one_that_counts_as_delivered_is_in_a_mail(self) -> None:
        found = good_world().with_found(notice_mails=[]).breaches()

        assert [breach.what for breach in found] == ["a notice counts as delivered and nobody got it"]

    def test_one_that_was_asked_for_was_taken(self) -> None:
        found = good_world().breaches(asked=[NOTICE.notice_id, "ntc_lost"])

        assert found == [Breach("I3", "a notice was asked for and never taken", ("ntc_lost",))]

    def test_one_has_a_mail(self) -> None:
        found = good_world().with_found(notices=[replace(NOTICE, state=None)]).breaches()

        assert [breach.what for breach in found] == ["a notice has no mail"]

    @pytest.mark.parametrize("state", ["expired", "dead_letter"])
    def test_one_that_nobody_gets_is_no_breach_when_that_is_written_down(self, state: str) -> None:
        world = good_world().with_found(notices=[replace(NOTICE, state=state)], notice_mails=[])

        assert world.breaches() == []

    @pytest.mark.parametrize("state", ["delivered", "expired", "dead_letter"])
    def test_a_secret_that_stays_behind_is_found(self, state: str) -> None:
        world = good_world().with_found(notices=[replace(NOTICE, state=state, has_secret=True)])

        assert [(each.invariant, each.ids) for each in world.breaches()] == [("I9", (NOTICE.notice_id,))]

    def test_more_copies_than_allowed_are_found(self) -> None:
        world = good_world().with_found(notice_mails=[A_MAIL, replace(A_MAIL, mail_id="mail_2")])

        assert [each.what for each in world.breaches()] == ["a notice was mailed 2 times"]
        assert world.breaches(most_copies=2) == []

    def test_a_mail_without_its_notice_is_found_where_all_are_looked_at(self) -> None:
        world = good_world().with_found(notices=[])

        assert [each.what for each in world.breaches()] == ["mailed without a notice"]
        assert world.with_found(is_scoped=True).breaches() == []
