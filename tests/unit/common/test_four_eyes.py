import pytest

from common.errors import PlatformError
from common.four_eyes import (
    LIFETIME_MS,
    ApprovalClosedError,
    ApprovalState,
    AskerNotEligibleError,
    Circle,
    NotEligibleError,
    OwnRequestError,
    Question,
    SecondPersonNeededError,
    check_approving,
    check_asking,
    check_refusing,
    check_withdrawing,
    may_approve,
)

NOW_MS = 1_800_000_000_000
ASKED = Question("ada", NOW_MS + LIFETIME_MS)
TWO = Circle(frozenset({"ada", "ben"}), is_sandbox=False)
ALONE = Circle(frozenset({"ada"}), is_sandbox=False, advice="Find somebody.")
ALONE_IN_A_SANDBOX = Circle(frozenset({"ada"}), is_sandbox=True)
CLOSED = [
    (Question("ada", NOW_MS), ApprovalState.EXPIRED),
    *[
        (Question("ada", NOW_MS + 1, state), state)
        for state in (ApprovalState.APPROVED, ApprovalState.REFUSED, ApprovalState.WITHDRAWN)
    ],
]


class TestState:
    def test_is_pending_until_72_hours_have_passed(self) -> None:
        question = Question("ada", NOW_MS + 72 * 3_600_000)

        assert question.state(NOW_MS + 72 * 3_600_000 - 1) is ApprovalState.PENDING
        assert question.state(NOW_MS + 72 * 3_600_000) is ApprovalState.EXPIRED
        assert LIFETIME_MS == 72 * 3_600_000

    def test_stays_what_was_decided(self) -> None:
        assert Question("ada", 0, ApprovalState.APPROVED).state(NOW_MS) is ApprovalState.APPROVED


class TestAsking:
    @pytest.mark.parametrize("is_sandbox", [True, False])
    def test_waits_for_another_who_is_eligible(self, *, is_sandbox: bool) -> None:
        assert not check_asking("ada", Circle(TWO.eligible, is_sandbox=is_sandbox))

    def test_is_approved_at_once_by_the_only_one_of_a_sandbox(self) -> None:
        assert check_asking("ada", ALONE_IN_A_SANDBOX)

    def test_is_refused_to_the_only_one_of_a_sandbox_whom_another_left_lately(self) -> None:
        circle = Circle(frozenset({"ada"}), is_sandbox=True, left_lately=frozenset({"ben"}))

        with pytest.raises(SecondPersonNeededError):
            check_asking("ada", circle)
        with pytest.raises(SecondPersonNeededError):
            check_approving(ASKED, "ada", circle, now_ms=NOW_MS)

    def test_is_refused_to_the_only_one_of_a_live_institution(self) -> None:
        with pytest.raises(SecondPersonNeededError, match=r"Find somebody\."):
            check_asking("ada", ALONE)

    @pytest.mark.parametrize("circle", [TWO, ALONE, ALONE_IN_A_SANDBOX, Circle(frozenset(), is_sandbox=True)])
    def test_is_refused_to_those_who_are_not_eligible(self, circle: Circle) -> None:
        with pytest.raises(NotEligibleError):
            check_asking("eve", circle)


class TestApproving:
    @pytest.mark.parametrize("is_sandbox", [True, False])
    def test_counts_by_another_who_is_eligible(self, *, is_sandbox: bool) -> None:
        circle = Circle(TWO.eligible, is_sandbox=is_sandbox)

        assert check_approving(ASKED, "ben", circle, now_ms=NOW_MS) is False

    @pytest.mark.parametrize("is_sandbox", [True, False])
    def test_does_not_count_by_the_one_who_asked(self, *, is_sandbox: bool) -> None:
        with pytest.raises(OwnRequestError):
            check_approving(ASKED, "ada", Circle(TWO.eligible, is_sandbox=is_sandbox), now_ms=NOW_MS)

    def test_is_a_self_approval_by_the_only_one_left_in_a_sandbox(self) -> None:
        assert check_approving(ASKED, "ada", ALONE_IN_A_SANDBOX, now_ms=NOW_MS) is True

    def test_is_impossible_for_the_only_one_left_in_a_live_institution(self) -> None:
        with pytest.raises(SecondPersonNeededError):
            check_approving(ASKED, "ada", ALONE, now_ms=NOW_MS)

    def test_does_not_count_by_anybody_else(self) -> None:
        with pytest.raises(NotEligibleError):
            check_approving(ASKED, "eve", TWO, now_ms=NOW_MS)

    def test_does_not_count_when_the_asker_lost_the_right_to_ask(self) -> None:
        circle = Circle(frozenset({"ben", "eve"}), is_sandbox=False)

        with pytest.raises(AskerNotEligibleError):
            check_approving(ASKED, "ben", circle, now_ms=NOW_MS)

    @pytest.mark.parametrize(("question", "state"), CLOSED)
    def test_comes_too_late_once_it_is_closed(self, question: Question, state: ApprovalState) -> None:
        with pytest.raises(ApprovalClosedError, match=state.value):
            check_approving(question, "ben", TWO, now_ms=NOW_MS)


class TestRefusing:
    def test_is_for_others_who_are_eligible(self) -> None:
        check_refusing(ASKED, "ben", TWO, now_ms=NOW_MS)

    def test_works_when_the_asker_lost_the_right_to_ask(self) -> None:
        check_refusing(ASKED, "ben", Circle(frozenset({"ben"}), is_sandbox=False), now_ms=NOW_MS)

    def test_is_not_for_the_one_who_asked(self) -> None:
        with pytest.raises(OwnRequestError, match="Withdraw"):
            check_refusing(ASKED, "ada", TWO, now_ms=NOW_MS)

    def test_is_not_for_anybody_else(self) -> None:
        with pytest.raises(NotEligibleError):
            check_refusing(ASKED, "eve", TWO, now_ms=NOW_MS)

    @pytest.mark.parametrize(("question", "_state"), CLOSED)
    def test_comes_too_late_once_it_is_closed(self, question: Question, _state: ApprovalState) -> None:
        with pytest.raises(ApprovalClosedError):
            check_refusing(question, "ben", TWO, now_ms=NOW_MS)


class TestWithdrawing:
    def test_is_for_the_one_who_asked(self) -> None:
        check_withdrawing(ASKED, "ada", now_ms=NOW_MS)

    def test_is_for_nobody_else(self) -> None:
        with pytest.raises(NotEligibleError):
            check_withdrawing(ASKED, "ben", now_ms=NOW_MS)

    @pytest.mark.parametrize(("question", "_state"), CLOSED)
    def test_comes_too_late_once_it_is_closed(self, question: Question, _state: ApprovalState) -> None:
        with pytest.raises(ApprovalClosedError):
            check_withdrawing(question, "ada", now_ms=NOW_MS)


class TestMayApprove:
    @pytest.mark.parametrize(
        ("person", "circle", "expected"),
        [
            ("ben", TWO, True),
            ("ada", TWO, False),
            ("eve", TWO, False),
            ("ada", ALONE, False),
            ("ada", ALONE_IN_A_SANDBOX, True),
        ],
    )
    def test_says_whose_approval_would_count(self, person: str, circle: Circle, *, expected: bool) -> None:
        assert may_approve(ASKED, person, circle, now_ms=NOW_MS) is expected


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "status", "type_"),
        [
            (SecondPersonNeededError, 409, "second-person-needed"),
            (OwnRequestError, 403, "own-request"),
            (NotEligibleError, 403, "not-eligible"),
            (ApprovalClosedError, 409, "approval-closed"),
            (AskerNotEligibleError, 409, "asker-not-eligible"),
        ],
    )
    def test_have_a_status_and_a_type(self, error: type[PlatformError], status: int, type_: str) -> None:
        assert (error.status_code, error.type) == (status, type_)
