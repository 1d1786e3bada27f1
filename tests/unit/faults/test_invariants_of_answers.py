"""Answers that are odd by themselves are found and named, and mails that went to strangers."""

import pytest

from tests.faults.decision_evidence import Decision
from tests.faults.history import Ending, Wanted
from tests.faults.invariants import Breach
from tests.unit.faults.worlds import (
    EMAIL,
    FINE,
    FLAGGED,
    LAST,
    World,
    good_world,
    mailed,
    make_attempt,
    make_decision,
    only,
)

STRANGER = "eve@other.example"


class TestDeliveries:
    @pytest.mark.parametrize("alert", ["pending", "delivered"])
    def test_an_alert_is_told_or_will_be(self, alert: str) -> None:
        attempt = make_attempt(FLAGGED)
        assert attempt.answer is not None
        attempt.answer["deliveries"]["alert"] = alert

        assert good_world().with_history(attempt).breaches() == []

    @pytest.mark.parametrize(
        ("decision", "deliveries", "what"),
        [
            (
                FLAGGED,
                {"alert": "not_needed", "audit": "pending"},
                "flagged, and answered with alert: not_needed",
            ),
            (
                FINE,
                {"alert": "delivered", "audit": "pending"},
                "not flagged, and answered with alert: delivered",
            ),
            (FINE, {"alert": "pending", "audit": "pending"}, "not flagged, and answered with alert: pending"),
            (
                FINE,
                {"alert": "not_needed", "audit": "not_needed"},
                "not flagged, and answered with audit: not_needed",
            ),
            (FINE, {"alert": "not_needed"}, "not flagged, and answered with audit: None"),
        ],
    )
    def test_any_other_word_is_a_breach(
        self, decision: Decision, deliveries: dict[str, str], what: str
    ) -> None:
        attempt = make_attempt(decision)
        assert attempt.answer is not None
        attempt.answer["deliveries"] = deliveries

        breach = only(good_world().with_history(attempt).breaches())

        assert breach == Breach("I3", what, (decision.transaction_id, decision.decision_id))


class TestInstitutions:
    def test_a_decision_of_another_institution(self) -> None:
        odd = make_attempt(LAST, institution_id="ins_others")
        world = good_world()

        breaches = World([*world.history, odd], world.found).breaches()

        assert "answered with a decision of another institution" in [each.what for each in breaches]


class TestRecipients:
    @pytest.mark.parametrize("recipients", [(STRANGER,), (EMAIL, STRANGER)])
    def test_a_stranger_who_is_told_too(self, recipients: tuple[str, ...]) -> None:
        more = mailed(FLAGGED, mail_id="mail_2", recipients=recipients)
        world = good_world().with_found(mails=[mailed(FLAGGED), more])

        breach = only(world.breaches(most_copies=2))

        assert breach == Breach("I8", "mailed to a stranger", (FLAGGED.alert_id, "mail_2", STRANGER))

    def test_an_admin_of_another_institution_is_a_stranger(self) -> None:
        world = good_world().with_found(
            admins={"ins_ours": frozenset({EMAIL}), "ins_others": frozenset({STRANGER})},
            mails=[mailed(FLAGGED), mailed(FLAGGED, mail_id="mail_2", recipients=(STRANGER,))],
        )

        assert only(world.breaches()).invariant == "I8"

    def test_nobody_is_one_where_nobody_knows_the_admins(self) -> None:
        world = good_world().with_found(admins=None, mails=[mailed(FLAGGED, recipients=(STRANGER,))])

        assert world.breaches() == []


class TestRefusals:
    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_an_error_that_was_not_meant(self, status: int) -> None:
        failed = make_attempt(FINE, ending=Ending.FAIL, status=status, answer=None, problem="internal")

        assert only(good_world().with_history(failed).breaches()).what == f"answered with {status}"

    @pytest.mark.parametrize(
        ("problem", "has_retry_after"), [(None, True), ("overloaded", False), (None, False)]
    )
    def test_a_503_that_does_not_say_when_to_come_again(
        self, problem: str | None, *, has_retry_after: bool
    ) -> None:
        away = make_attempt(
            FINE,
            ending=Ending.FAIL,
            status=503,
            answer=None,
            problem=problem,
            has_retry_after=has_retry_after,
        )

        assert only(good_world().with_history(away).breaches()).invariant == "I10"

    @pytest.mark.parametrize("status", [401, 403, 409, 422])
    def test_a_good_request_that_was_refused(self, status: int) -> None:
        refused = make_attempt(make_decision(4), ending=Ending.FAIL, status=status, answer=None)
        answered = make_attempt(FINE)

        breaches = good_world().with_history(refused, answered).breaches()

        assert f"a good request was refused with {status} None" in [breach.what for breach in breaches]

    def test_an_answer_that_is_no_decision(self) -> None:
        odd = make_attempt(FINE, ending=Ending.INFO, status=200, answer=None)

        assert only(good_world().with_history(odd).breaches()).what == "answered with 200 and no decision"

    @pytest.mark.parametrize("status", [100, 201, 202, 204, 301, 304])
    def test_a_status_that_nobody_asked_for(self, status: int) -> None:
        odd = make_attempt(FINE, ending=Ending.FAIL, status=status, answer=None)

        assert only(good_world().with_history(odd).breaches()).what == f"answered with {status}"

    @pytest.mark.parametrize("status", [201, 202, 409, 503, None])
    def test_a_decision_with_another_status_than_200(self, status: int | None) -> None:
        odd = make_attempt(LAST, status=status, problem="odd", has_retry_after=True)

        breaches = good_world().with_history(odd).breaches()

        assert f"a decision was answered with {status}" in [breach.what for breach in breaches]

    def test_a_conflict_that_was_refused_otherwise(self) -> None:
        odd = make_attempt(
            make_decision(9),
            wanted=Wanted.CONFLICT,
            ending=Ending.FAIL,
            status=422,
            answer=None,
            problem="odd",
        )

        breach = only(good_world().with_history(odd).breaches())

        assert breach.what == "another body was refused with 422 odd"

    def test_a_503_that_took_too_long(self) -> None:
        late = make_attempt(
            FINE,
            ending=Ending.FAIL,
            status=503,
            answer=None,
            problem="overloaded",
            has_retry_after=True,
            latency_ms=9_999.0,
        )
        world = good_world().with_history(late)

        assert world.breaches() == []
        assert only(world.breaches(refused_within_s=5.0)).what == "503 only after 10.0 s"
