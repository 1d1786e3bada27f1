"""What must hold of each answer by itself, and of who was told. Pure.

The names are those of `invariants`: I3 an answer says whether an alert is needed, I8 nobody outside an institution hears
of its alerts, I10 every refusal is a deliberate one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from common.contracts.decisions import DeliveryStatus
from tests.faults.history import Attempt, Ending, Wanted
from tests.faults.invariants import Breach, Case

ANSWERED = 200
CONFLICTING = 409
DELIBERATE = 503
CLIENT_ERRORS = range(400, 500)
NEEDED = frozenset({DeliveryStatus.PENDING, DeliveryStatus.DELIVERED})
NOT_NEEDED = frozenset({DeliveryStatus.NOT_NEEDED})


def answer_breaches(case: Case) -> list[Breach]:
    """Return everything that does not hold."""
    return [breach for check in CHECKS for breach in check(case)]


def answers_say_who_is_told(case: Case) -> Iterator[Breach]:
    """I3."""
    for attempt in case.acknowledged:
        decision = case.by_decision.get(str(attempt.decision_id))
        if decision is None:
            continue
        deliveries = (attempt.answer or {}).get("deliveries") or {}
        may_be = {"alert": NEEDED if decision.flagged else NOT_NEEDED, "audit": NEEDED}
        for target, statuses in may_be.items():
            if (status := deliveries.get(target)) not in statuses:
                flagged = "flagged" if decision.flagged else "not flagged"
                what = f"{flagged}, and answered with {target}: {status}"
                yield Breach("I3", what, (attempt.transaction_id, decision.decision_id))


def answers_are_of_one_institution(case: Case) -> Iterator[Breach]:
    """I8."""
    for attempt in case.acknowledged:
        decision = case.by_decision.get(str(attempt.decision_id))
        if decision is not None and attempt.institution_id not in {"", decision.institution_id}:
            ids = (attempt.transaction_id, decision.decision_id, attempt.institution_id)
            yield Breach("I8", "answered with a decision of another institution", ids)


def alerts_go_to_admins_alone(case: Case) -> Iterator[Breach]:
    """I8."""
    ours = {decision.alert_id: decision.institution_id for decision in case.found.decisions}
    for mail in case.found.mails or ():
        for alert_id in mail.alert_ids & ours.keys():
            strangers = [each for each in mail.recipients if not case.may_get(ours[alert_id], each)]
            if strangers:
                yield Breach("I8", "mailed to a stranger", (alert_id, mail.mail_id, *strangers))


def every_refusal_is_deliberate(case: Case) -> Iterator[Breach]:
    """I10."""
    for attempt in case.history:
        what = next(_odd(attempt, refused_within_s=case.refused_within_s), None)
        if what is not None:
            ids = [attempt.transaction_id, *([attempt.decision_id] if attempt.decision_id else [])]
            yield Breach("I10", what, tuple(ids))


CHECKS: Sequence[Callable[[Case], Iterable[Breach]]] = (
    answers_say_who_is_told,
    answers_are_of_one_institution,
    alerts_go_to_admins_alone,
    every_refusal_is_deliberate,
)


def _odd(attempt: Attempt, *, refused_within_s: float) -> Iterator[str]:
    """Yield what is not as it should be with the status of one answer, the clearest first."""
    status = attempt.status
    if attempt.ending is Ending.OK and status != ANSWERED:
        yield f"a decision was answered with {status}"
    if status == DELIBERATE:
        yield from _odd_503(attempt, refused_within_s=refused_within_s)
    elif status is not None and status in CLIENT_ERRORS:
        yield from _odd_refusal(attempt)
    elif status not in {None, ANSWERED}:
        yield f"answered with {status}"
    elif status == ANSWERED and attempt.ending is not Ending.OK:
        yield f"answered with {status} and no decision"


def _odd_503(attempt: Attempt, *, refused_within_s: float) -> Iterator[str]:
    if attempt.problem is None or not attempt.has_retry_after:
        yield "503 without a problem or without Retry-After"
    if attempt.latency_ms > refused_within_s * 1000:
        yield f"503 only after {attempt.latency_ms / 1000:.1f} s"


def _odd_refusal(attempt: Attempt) -> Iterator[str]:
    if attempt.wanted is Wanted.DECISION:
        yield f"a good request was refused with {attempt.status} {attempt.problem}"
    elif attempt.status != CONFLICTING:
        yield f"another body was refused with {attempt.status} {attempt.problem}"
