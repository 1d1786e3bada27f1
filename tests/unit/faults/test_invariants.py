"""Every kind of broken promise is found and named, and a kept one is not."""

from dataclasses import replace

import pytest

from tests.factories import make_transaction
from tests.faults.decision_evidence import OrphanKey
from tests.faults.evidence import Pending
from tests.faults.history import Ending, Wanted
from tests.faults.invariants import Breach
from tests.faults.resources import Held
from tests.unit.faults.worlds import (
    FINE,
    FLAGGED,
    LAST,
    SECOND_EMAIL,
    World,
    archived,
    good_world,
    mailed,
    make_attempt,
    make_decision,
    object_key,
    only,
    with_answer,
)

OTHER_BODY = make_transaction(transaction_id=FINE.transaction_id, amount="99.00").body.decode()
OTHERS = make_decision(9, institution_id="ins_others")
NAMESAKE = make_decision(
    9, institution_id="ins_others", transaction_id=FINE.transaction_id, sequence=1, amount="99.00"
)


class TestAKeptPromise:
    def test_is_no_breach(self) -> None:
        assert good_world().breaches() == []

    def test_a_repeat_hears_the_same_with_other_deliveries(self) -> None:
        again = make_attempt(FINE)
        assert again.answer is not None
        again.answer["deliveries"] = {"alert": "not_needed", "audit": "pending"}

        assert good_world().with_history(again).breaches() == []

    def test_what_had_no_answer_may_be_saved_once_it_converged(self) -> None:
        lost = make_attempt(FINE, ending=Ending.INFO, status=None, answer=None, error="timeout")

        assert good_world().with_history(lost).breaches() == []

    def test_what_was_turned_away_may_be_saved_by_a_later_try(self) -> None:
        away = make_attempt(
            FINE, ending=Ending.FAIL, status=503, answer=None, problem="overloaded", has_retry_after=True
        )

        assert good_world().with_history(away).breaches() == []

    def test_another_body_is_a_conflict(self) -> None:
        conflict = make_attempt(
            FINE, body=OTHER_BODY, wanted=Wanted.CONFLICT, ending=Ending.FAIL, status=409, answer=None
        )

        assert good_world().with_history(conflict).breaches() == []

    def test_several_recipients_are_no_copies(self) -> None:
        world = good_world().with_found(
            mails=[mailed(FLAGGED), mailed(FLAGGED, mail_id="mail_2", recipients=(SECOND_EMAIL,))]
        )

        assert world.breaches() == []

    def test_two_institutions_may_use_the_same_id(self) -> None:
        world = good_world().with_more(NAMESAKE, body=OTHER_BODY)

        assert world.breaches() == []

    def test_also_where_nobody_wrote_down_whose_request_it_was(self) -> None:
        world = good_world().with_more(NAMESAKE, body=OTHER_BODY, institution_id="")
        lost = make_attempt(FINE, institution_id="", ending=Ending.INFO, status=None, answer=None)

        assert world.with_history(lost).breaches() == []

    @pytest.mark.parametrize("amount", ["25.00", "25", "2500e-2"])
    def test_an_amount_may_be_a_number(self, amount: str) -> None:
        attempt = make_attempt(FINE)
        sent = attempt.body.replace('"25.00"', amount)
        assert sent != attempt.body

        assert good_world().with_history(make_attempt(FINE, body=sent)).breaches() == []

    def test_what_nobody_looked_at_is_no_breach(self) -> None:
        assert good_world().with_found(archived=None, mails=None, admins=None).breaches() == []


class TestLost:
    def test_an_acknowledged_decision_that_is_not_saved(self) -> None:
        world = good_world()
        found = replace(world.found, decisions=[FINE, FLAGGED], archived=world.found.archived)

        breaches = World(world.history, found).breaches()

        assert Breach("I1", "acknowledged and not saved", (LAST.transaction_id, LAST.decision_id)) in breaches

    def test_a_decision_that_was_saved_otherwise_than_answered(self) -> None:
        other = with_answer(FINE, fraud_probability=0.26)
        world = good_world().with_found(
            decisions=[other, FLAGGED, LAST], archived=[archived(each) for each in (other, FLAGGED, LAST)]
        )

        assert only(world.breaches()).what == "saved differs from what was answered"

    def test_a_transaction_that_never_got_an_answer(self) -> None:
        lost = make_attempt(make_decision(4), ending=Ending.INFO, status=None, answer=None)

        breach = only(good_world().with_history(lost).breaches())

        assert breach == Breach("I1", "repeats never came to an answer", ("tx-4",))


class TestArchive:
    def test_a_decision_that_is_not_archived(self) -> None:
        world = good_world().with_found(archived=[archived(FINE), archived(FLAGGED)])

        assert only(world.breaches()) == Breach("I2", "saved and not archived", (LAST.decision_id,))

    def test_a_decision_in_two_objects(self) -> None:
        twice = archived(FINE, key=object_key(number=2))
        world = good_world().with_found(archived=[*map(archived, (FINE, FLAGGED, LAST)), twice])

        breach = only(world.breaches())

        assert (breach.invariant, breach.what) == ("I2", "archived more than once")
        assert breach.ids == (FINE.decision_id, archived(FINE).key, twice.key)

    def test_other_bytes(self) -> None:
        changed = replace(archived(FINE), line=FINE.record + b" ")
        world = good_world().with_found(archived=[changed, archived(FLAGGED), archived(LAST)])

        assert only(world.breaches()).what == "archived with other bytes"

    def test_an_object_that_cannot_be_read(self) -> None:
        world = good_world().with_found(unreadable=["audit/sandbox/ins_ours/odd"])

        assert only(world.breaches()).what == "an object cannot be read"


class TestTold:
    def test_a_flagged_decision_that_no_mail_names(self) -> None:
        world = good_world().with_found(mails=[])

        breach = only(world.breaches())

        assert breach == Breach("I3", "flagged and nobody was told", (FLAGGED.decision_id, FLAGGED.alert_id))

    def test_unless_it_is_written_down_that_nobody_takes_it(self) -> None:
        world = good_world().with_found(mails=[], muted=frozenset({FLAGGED.alert_id}))

        assert world.breaches(may_be_refused=True) == []
        assert only(world.breaches()).what == "flagged and nobody was told"

    def test_a_stranger_who_was_told_is_nobody(self) -> None:
        world = good_world().with_found(mails=[mailed(FLAGGED, recipients=("eve@other.example",))])

        assert [(each.invariant, each.what) for each in world.breaches()] == [
            ("I3", "flagged and nobody was told"),
            ("I8", "mailed to a stranger"),
        ]

    def test_a_second_copy_for_the_same_address(self) -> None:
        world = good_world().with_found(mails=[mailed(FLAGGED), mailed(FLAGGED, mail_id="mail_2")])

        assert only(world.breaches()).what == "told 2 times"
        assert world.breaches(most_copies=2) == []

    def test_a_copy_under_another_message_id(self) -> None:
        copy = mailed(FLAGGED, mail_id="mail_2", message_id="<2@assay.example>")
        world = good_world().with_found(mails=[mailed(FLAGGED), copy])

        assert only(world.breaches(most_copies=3)).what == "told again under another Message-ID"


class TestPhantoms:
    def test_an_archived_decision_that_is_not_saved(self) -> None:
        phantom = make_decision(8)
        world = good_world()
        world = world.with_found(archived=[*(world.found.archived or ()), archived(phantom)])

        assert only(world.breaches()).what == "archived and not saved"

    def test_a_mailed_alert_without_a_decision(self) -> None:
        phantom = make_decision(8)
        world = good_world().with_found(mails=[mailed(FLAGGED, phantom)])

        breach = only(world.breaches())

        assert (breach.invariant, breach.ids) == ("I4", (phantom.alert_id, "mail_1"))

    def test_an_alert_of_a_decision_that_was_not_flagged(self) -> None:
        world = good_world().with_found(alert_ids=frozenset({FLAGGED.alert_id, FINE.alert_id}))

        assert only(world.breaches()) == Breach("I4", "an alert without a flagged decision", (FINE.alert_id,))

    def test_an_alert_of_another_institution(self) -> None:
        world = good_world()
        world = world.with_found(
            decision_ids=world.found.decision_ids | {OTHERS.decision_id}, mails=[mailed(FLAGGED, OTHERS)]
        )

        assert only(world.breaches()).invariant == "I8"

    def test_an_archived_decision_of_another_institution(self) -> None:
        world = good_world()
        world = world.with_found(
            decision_ids=world.found.decision_ids | {OTHERS.decision_id},
            archived=[*(world.found.archived or ()), archived(OTHERS, key=object_key())],
        )

        breach = only(world.breaches())

        assert breach == Breach("I8", "archived and not saved", (OTHERS.decision_id, object_key()))


class TestOneAnswer:
    def test_a_transaction_that_was_decided_twice(self) -> None:
        twice = replace(make_decision(4), transaction_id=FINE.transaction_id)
        world = good_world()
        world = world.with_found(
            decisions=[*world.found.decisions, twice],
            decision_ids=world.found.decision_ids | {twice.decision_id},
            archived=[*(world.found.archived or ()), archived(twice)],
        )

        whats = [breach.what for breach in world.breaches()]

        assert "decided 2 times" in whats

    def test_repeats_that_were_answered_differently(self) -> None:
        again = make_attempt(FINE)
        assert again.answer is not None
        again.answer["fraud_probability"] = 0.9

        whats = {breach.what for breach in good_world().with_history(again).breaches()}

        assert whats == {"saved differs from what was answered", "repeats were answered differently"}

    def test_another_body_that_got_a_decision(self) -> None:
        accepted = make_attempt(FINE, body=OTHER_BODY, wanted=Wanted.CONFLICT)

        breach = only(good_world().with_history(accepted).breaches())

        assert breach.what == "another body was answered with a decision"

    def test_what_is_no_transaction_and_got_a_decision(self) -> None:
        accepted = make_attempt(FINE, body='{"amount": NaN}', wanted=Wanted.CONFLICT)

        assert only(good_world().with_history(accepted).breaches()).invariant == "I5"

    def test_another_body_in_one_of_two_institutions_with_the_id(self) -> None:
        world = good_world().with_more(NAMESAKE, body=OTHER_BODY)
        accepted = make_attempt(FINE, body=OTHER_BODY, wanted=Wanted.CONFLICT)
        refused = make_attempt(
            NAMESAKE, body=OTHER_BODY, wanted=Wanted.CONFLICT, ending=Ending.FAIL, status=409, answer=None
        )

        whats = [breach.what for breach in world.with_history(accepted, refused).breaches()]

        assert whats == [
            "another body was answered with a decision",
            "the very body that is saved was refused as another",
        ]

    def test_an_answer_in_another_institution_is_none_here(self) -> None:
        world = good_world().with_more(NAMESAKE, body=OTHER_BODY)
        history = [each for each in world.history if each.institution_id != NAMESAKE.institution_id]
        lost = make_attempt(NAMESAKE, body=OTHER_BODY, ending=Ending.INFO, status=None, answer=None)

        breach = only(World([*history, lost], world.found).breaches())

        assert breach == Breach("I1", "repeats never came to an answer", (FINE.transaction_id,))

    def test_a_key_without_a_decision(self) -> None:
        world = good_world().with_found(orphan_keys=[OrphanKey("ins_ours", "tx-8", "dec_8")])

        breach = only(world.breaches())

        assert breach == Breach("I5", "an idempotency key without a decision", ("tx-8", "ins_ours", "dec_8"))

    def test_the_same_body_that_was_refused_as_another(self) -> None:
        refused = make_attempt(FINE, wanted=Wanted.CONFLICT, ending=Ending.FAIL, status=409, answer=None)

        breach = only(good_world().with_history(refused).breaches())

        assert breach.what == "the very body that is saved was refused as another"

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"key_decision_id": None, "body_sha256": ""}, "without its own idempotency key"),
            ({"key_decision_id": LAST.decision_id}, "without its own idempotency key"),
            ({"body_sha256": "0" * 64}, "its key is of another body"),
        ],
    )
    def test_a_decision_whose_key_is_not_its_own(self, changes: dict[str, str], what: str) -> None:
        world = good_world().with_found(decisions=[replace(FINE, **changes), FLAGGED, LAST])  # type: ignore[arg-type]

        assert only(world.breaches()).what == what


class TestNumbers:
    def test_a_gap(self) -> None:
        world = good_world(FINE, FLAGGED, make_decision(3, sequence=4))

        assert only(world.breaches()) == Breach("I6", "missing sequence numbers", ("ins_ours", "3"))

    def test_a_number_that_was_given_twice(self) -> None:
        world = good_world(FINE, FLAGGED, make_decision(3, sequence=2))

        assert only(world.breaches()).invariant == "I6"


class TestHeld:
    def test_more_than_before(self) -> None:
        held = [
            Held("ai_service", "files", before=50, after=71, allowed=20),
            Held("log_service", "files", 50, 70, 20),
        ]

        breach = only(good_world().breaches(held=held))

        assert breach == Breach("I12", "files went from 50 to 71", ("ai_service",))


class TestWaiting:
    def test_what_still_waits(self) -> None:
        world = good_world().with_found(
            pending=[Pending("outbox audit", FINE.decision_id, "status 500"), Pending("mail", "mail_1", None)]
        )

        assert [str(breach) for breach in world.breaches()] == [
            f"I13: still waits in: outbox audit (status 500): {FINE.decision_id}",
            "I13: still waits in: mail: mail_1",
        ]
