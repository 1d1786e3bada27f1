"""What must hold, whatever failed in between: client history against rows, archive and mailbox. Pure.

The names are those of the project's test plan: I1 nothing acknowledged is lost, I2 decisions and archive are the same
bytes, I3 every flagged decision was told, I4 nothing is there without a decision, I5 one transaction has one answer,
I6 numbers have no gaps, I8 nothing reaches another institution, I10 no error but a deliberate 503, I12 nothing is
held that was let go, I13 nothing waits any more.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from common.canonical import canonical_bytes, sha256_hex
from common.contracts.transactions import Transaction
from tests.faults.evidence import ArchivedLine, Decision, Evidence, Mail
from tests.faults.history import Attempt, Ending, Wanted
from tests.faults.resources import Held

CHANGING = frozenset({"deliveries"})  # who has been told by now
DELIBERATE = 503
SERVER_ERRORS = 500


@dataclass(frozen=True)
class Breach:
    """One promise that was not kept: which, how, and by what."""

    invariant: str
    what: str
    ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}: {', '.join(self.ids)}"


@dataclass(frozen=True)
class Case:
    """All that is compared. `most_copies` is how often the same address may get the same alert.

    More than one is allowed only after a crash, or when a mail server was cut off before it could answer. Where a mail
    server refuses addresses for good, mails `may_be_refused`, if that is written down.
    """

    history: Sequence[Attempt]
    found: Evidence
    most_copies: int = 1
    may_be_refused: bool = False
    held: Sequence[Held] = ()
    registered: Sequence[str] = ()  # institutions whose registration was answered
    asked: Sequence[str] = ()  # notices that were asked for

    @cached_property
    def by_decision(self) -> Mapping[str, Decision]:
        """Return the saved decisions by id."""
        return {decision.decision_id: decision for decision in self.found.decisions}

    @cached_property
    def by_transaction(self) -> Mapping[str, list[Decision]]:
        """Return the saved decisions by transaction."""
        found: defaultdict[str, list[Decision]] = defaultdict(list)
        for decision in self.found.decisions:
            found[decision.transaction_id].append(decision)
        return found

    @cached_property
    def acknowledged(self) -> list[Attempt]:
        """Return the requests that were answered with a decision."""
        return [attempt for attempt in self.history if attempt.decision_id is not None]


def breaches(case: Case) -> list[Breach]:
    """Return everything that does not hold."""
    return [breach for check in CHECKS for breach in check(case)]


def nothing_acknowledged_is_lost(case: Case) -> Iterator[Breach]:
    """I1."""
    for attempt in case.acknowledged:
        decision = case.by_decision.get(str(attempt.decision_id))
        if decision is None:
            yield _breach("I1", "acknowledged and not saved", attempt, attempt.decision_id)
        elif not _is_answer_of(attempt, decision):
            yield _breach("I1", "saved differs from what was answered", attempt, attempt.decision_id)
    last = {attempt.transaction_id: attempt for attempt in case.history if attempt.wanted is Wanted.DECISION}
    answered = {attempt.transaction_id for attempt in case.acknowledged}
    for transaction_id in last.keys() - answered:
        yield Breach("I1", "repeats never came to an answer", (transaction_id,))


def archive_and_database_are_the_same(case: Case) -> Iterator[Breach]:
    """I2."""
    if case.found.archived is None:
        return
    for key in case.found.unreadable:
        yield Breach("I2", "an object cannot be read", (key,))
    lines: defaultdict[str, list[ArchivedLine]] = defaultdict(list)
    for line in case.found.archived:
        lines[line.record_id].append(line)
    for decision_id, decision in case.by_decision.items():
        archived = lines[decision_id]
        if not archived:
            yield Breach("I2", "saved and not archived", (decision_id,))
        elif len(archived) > 1:
            yield Breach("I2", "archived more than once", (decision_id, *(line.key for line in archived)))
        if any(line.line != decision.record for line in archived):
            yield Breach("I2", "archived with other bytes", (decision_id, archived[0].key))


def flagged_decisions_were_told(case: Case) -> Iterator[Breach]:
    """I3."""
    if case.found.mails is None:
        return
    mails: defaultdict[tuple[str, str], list[Mail]] = defaultdict(list)
    for mail in case.found.mails:
        for alert_id in mail.alert_ids:
            for address in mail.recipients:
                mails[alert_id, address].append(mail)
    told = {alert_id for alert_id, _ in mails} | (case.found.muted if case.may_be_refused else frozenset())
    for decision in case.found.decisions:
        if decision.flagged and decision.alert_id not in told:
            yield Breach("I3", "flagged and nobody was told", (decision.decision_id, decision.alert_id))
    for (alert_id, _), copies in mails.items():
        mail_ids = tuple(mail.mail_id for mail in copies)
        if len(copies) > case.most_copies:
            yield Breach("I3", f"told {len(copies)} times", (alert_id, *mail_ids))
        if len({mail.message_id for mail in copies}) > 1:
            yield Breach("I3", "told again under another Message-ID", (alert_id, *mail_ids))


def nothing_is_there_without_a_decision(case: Case) -> Iterator[Breach]:
    """I4, and I8 for what is another institution's."""
    ours = {decision.alert_id: decision for decision in case.found.decisions}
    everybodys = {"alr_" + each.removeprefix("dec_") for each in case.found.decision_ids}
    for line in case.found.archived or ():
        if line.record_id not in case.by_decision:
            yield Breach("I4", "archived and not saved", (line.record_id, line.key))
    for mail in case.found.mails or ():
        for alert_id in mail.alert_ids - ours.keys():
            invariant = "I8" if alert_id in everybodys else "I4"
            yield Breach(invariant, "mailed without a decision of this institution", (alert_id, mail.mail_id))
    flagged = {alert_id for alert_id, decision in ours.items() if decision.flagged}
    for alert_id in case.found.alert_ids - flagged:
        yield Breach("I4", "an alert without a flagged decision", (alert_id,))


def a_transaction_has_one_answer(case: Case) -> Iterator[Breach]:
    """I5."""
    for transaction_id, decisions in case.by_transaction.items():
        for institution_id, count in Counter(each.institution_id for each in decisions).items():
            if count > 1:
                yield Breach("I5", f"decided {count} times", (transaction_id, institution_id))
    for decision in case.found.decisions:
        if decision.key_decision_id != decision.decision_id:
            yield Breach("I5", "without its own idempotency key", (decision.decision_id,))
        elif decision.body_sha256 != _transaction_sha256(decision):
            yield Breach("I5", "its key is of another body", (decision.decision_id,))
    answers: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in case.acknowledged:
        answers[attempt.transaction_id].append(attempt)
    for transaction_id, attempts in answers.items():
        if len({_fixed(attempt.answer) for attempt in attempts}) > 1:
            ids = sorted({str(attempt.decision_id) for attempt in attempts})
            yield Breach("I5", "repeats were answered differently", (transaction_id, *ids))
    yield from _other_bodies(case)


def numbers_have_no_gaps(case: Case) -> Iterator[Breach]:
    """I6."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for decision in case.found.decisions:
        numbers[decision.institution_id].append(decision.sequence)
    for institution_id, found in numbers.items():
        odd = Counter(range(1, len(found) + 1))
        odd.subtract(found)
        missing = sorted(number for number, count in odd.items() if count > 0)
        if missing:
            yield Breach("I6", "missing sequence numbers", (institution_id, *map(str, missing[:20])))


def every_refusal_is_deliberate(case: Case) -> Iterator[Breach]:
    """I10."""
    for attempt in case.history:
        status = attempt.status
        if status is None:
            continue
        if status >= SERVER_ERRORS and status != DELIBERATE:
            yield _breach("I10", f"answered with {status}", attempt)
        elif status == DELIBERATE and (attempt.problem is None or not attempt.has_retry_after):
            yield _breach("I10", "503 without a problem or without Retry-After", attempt)
        elif attempt.wanted is Wanted.DECISION and 400 <= status < SERVER_ERRORS:
            yield _breach("I10", f"a good request was refused with {status} {attempt.problem}", attempt)
        elif attempt.wanted is Wanted.CONFLICT and 400 <= status < SERVER_ERRORS and status != 409:
            yield _breach("I10", f"another body was refused with {status} {attempt.problem}", attempt)
        elif attempt.ending is Ending.INFO:
            yield _breach("I10", f"answered with {status} and no decision", attempt)


def nothing_is_held(case: Case) -> Iterator[Breach]:
    """I12."""
    for held in case.held:
        if held.after > held.before + held.allowed:
            yield Breach("I12", f"{held.what} went from {held.before} to {held.after}", (held.process,))


def nothing_waits(case: Case) -> Iterator[Breach]:
    """I13."""
    for pending in case.found.pending:
        reason = f" ({pending.reason})" if pending.reason else ""
        yield Breach("I13", f"still waits in: {pending.place}{reason}", (pending.subject_id,))


CHECKS: Sequence[Callable[[Case], Iterable[Breach]]] = (
    nothing_acknowledged_is_lost,
    archive_and_database_are_the_same,
    flagged_decisions_were_told,
    nothing_is_there_without_a_decision,
    a_transaction_has_one_answer,
    numbers_have_no_gaps,
    every_refusal_is_deliberate,
    nothing_is_held,
    nothing_waits,
)


def _other_bodies(case: Case) -> Iterator[Breach]:
    """Compare what was sent with what is saved: another body is a conflict, and only another body is."""
    for attempt in case.history:
        decisions = case.by_transaction.get(attempt.transaction_id)
        if not decisions or attempt.status is None:
            continue
        same = _sent(attempt) == orjson.loads(decisions[0].record)["transaction"]
        if attempt.ending is Ending.OK and not same:
            yield _breach("I5", "another body was answered with a decision", attempt, attempt.decision_id)
        elif attempt.status == 409 and same:
            yield _breach("I5", "the very body that is saved was refused as another", attempt)


def _is_answer_of(attempt: Attempt, decision: Decision) -> bool:
    saved = orjson.loads(decision.record)["decision"]
    same_id = decision.transaction_id == attempt.transaction_id
    return same_id and _fixed(attempt.answer) == _fixed(saved)


def _fixed(answer: Mapping[str, Any] | None) -> bytes:
    """Return the part of an answer that never changes."""
    fields = {name: value for name, value in (answer or {}).items() if name not in CHANGING}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _sent(attempt: Attempt) -> Any:  # noqa: ANN401 - any JSON
    return orjson.loads(Transaction.model_validate_json(attempt.body).body)


def _transaction_sha256(decision: Decision) -> str:
    return sha256_hex(canonical_bytes(orjson.loads(decision.record)["transaction"]))


def _breach(invariant: str, what: str, attempt: Attempt, *ids: str | None) -> Breach:
    return Breach(invariant, what, (attempt.transaction_id, *(each for each in ids if each)))
