"""Four eyes (pure): what one person asks for, another has to agree to; then it is done exactly as it was asked, once.

Who is eligible depends on the action and is found out by whoever offers it. What is decided here: another eligible
person approves or refuses. The one who asked may only withdraw, with one exception: in a sandbox, where nothing is at
stake, whoever has been the only eligible person for 72 hours approves what they asked for, and the record says so. After
72 hours a request is over.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from common.errors import PlatformError

LIFETIME_MS = 72 * 3_600_000


class ApprovalState(StrEnum):
    """What became of a request."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"  # never stored: it follows from the clock


class SecondPersonNeededError(PlatformError):
    """Nobody else may approve this, so nobody can."""

    status_code = 409
    type = "second-person-needed"
    title = "This needs a second person who may approve it"


class OwnRequestError(PlatformError):
    """Somebody decides on what they asked for themselves."""

    status_code = 403
    type = "own-request"
    title = "Another person has to decide on this"


class NotEligibleError(PlatformError):
    """This person may not decide on this."""

    status_code = 403
    type = "not-eligible"
    title = "You may not decide on this"


class ApprovalClosedError(PlatformError):
    """The request was decided on, was withdrawn or has expired."""

    status_code = 409
    type = "approval-closed"
    title = "This request is not open any more"


class AskerNotEligibleError(PlatformError):
    """Whoever asked could not ask for it now; what they asked for can only be refused."""

    status_code = 409
    type = "asker-not-eligible"
    title = "The person who asked for this may not ask for it any more"


@dataclass(frozen=True, slots=True)
class Question:
    """Who asked, until when an answer counts, and what the answer was."""

    asked_by: str
    expires_at_ms: int
    stored_state: ApprovalState = ApprovalState.PENDING

    def state(self, now_ms: int) -> ApprovalState:
        """Return what became of it."""
        if self.stored_state is ApprovalState.PENDING and now_ms >= self.expires_at_ms:
            return ApprovalState.EXPIRED
        return self.stored_state


@dataclass(frozen=True, slots=True)
class Circle:
    """Everybody who may ask and approve, now. `advice` tells what to do where there is no second person.

    Nobody gets alone by sending the others away: those who `left_lately` approve nothing, but they were there.
    """

    eligible: Set[str]
    is_sandbox: bool
    advice: str = ""
    left_lately: Set[str] = frozenset()

    def has_other_than(self, person: str) -> bool:
        """Say whether somebody else is eligible."""
        return bool(self.eligible - {person})


def check_asking(person: str, circle: Circle) -> bool:
    """Say whether `person` approves at once what they ask for: in a sandbox, the only eligible one for 72 hours.

    Raises `NotEligibleError` and `SecondPersonNeededError`.
    """
    if person not in circle.eligible:
        raise NotEligibleError
    if circle.has_other_than(person):
        return False
    if not circle.is_sandbox or circle.left_lately - {person}:
        raise SecondPersonNeededError(circle.advice)
    return True


def check_approving(question: Question, person: str, circle: Circle, *, now_ms: int) -> bool:
    """Say whether `person` approves what they asked for themselves; an approval by another returns False.

    Raises `ApprovalClosedError`, `NotEligibleError`, `AskerNotEligibleError`, `OwnRequestError` and
    `SecondPersonNeededError`.
    """
    _check_open(question, now_ms)
    if person not in circle.eligible:
        raise NotEligibleError
    if question.asked_by not in circle.eligible:
        raise AskerNotEligibleError
    if person != question.asked_by:
        return False
    if circle.has_other_than(person):
        raise OwnRequestError
    return check_asking(person, circle)


def check_refusing(question: Question, person: str, circle: Circle, *, now_ms: int) -> None:
    """Raise `ApprovalClosedError`, `NotEligibleError` or, for the one who asked, `OwnRequestError`."""
    _check_open(question, now_ms)
    if person not in circle.eligible:
        raise NotEligibleError
    if person == question.asked_by:
        raise OwnRequestError("Withdraw it instead.")


def check_withdrawing(question: Question, person: str, *, now_ms: int) -> None:
    """Raise `ApprovalClosedError`, or `NotEligibleError` for everybody but the one who asked."""
    _check_open(question, now_ms)
    if person != question.asked_by:
        raise NotEligibleError


def may_approve(question: Question, person: str, circle: Circle, *, now_ms: int) -> bool:
    """Say whether an approval by `person` would count."""
    try:
        check_approving(question, person, circle, now_ms=now_ms)
    except PlatformError:
        return False
    return True


def _check_open(question: Question, now_ms: int) -> None:
    state = question.state(now_ms)
    if state is not ApprovalState.PENDING:
        raise ApprovalClosedError(f"It is {state.value}.")
