"""What must hold, whatever failed in between: client history against rows, archive and mailbox. Pure.

The names are those of the project's test plan: I1 nothing acknowledged is lost, I2 decisions and archive are the same
bytes, I3 every flagged decision was told, I4 nothing is there without a decision, I5 one transaction has one answer,
I6 numbers have no gaps, I8 nothing reaches another institution, I10 no error but a deliberate 503, I12 nothing is
held that was let go, I13 nothing waits any more. What each record and each answer must hold by itself is in
`invariants_of_records` and `invariants_of_answers`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from common.canonical import canonical_bytes, sha256_hex
from common.contracts.transactions import Transaction
from common.errors import InvalidRequestError, MalformedJsonError
from common.strict_json import read_model
from tests.faults.decision_evidence import Decision
from tests.faults.evidence import ArchivedLine, Evidence, Mail
from tests.faults.history import Attempt, Ending, Wanted
from tests.faults.resources import Held

REFUSED_WITHIN_S = 10.0
CHANGING = frozenset({"deliveries"})  # who has been told by now


Sent = tuple[str, str]  # institution and transaction


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
    server refuses addresses for good, mails `may_be_refused`, if that is written down. A 503 comes `refused_within_s`:
    far beyond every deadline, so that a busy machine is no breach.
    """

    history: Sequence[Attempt]
    found: Evidence
    most_copies: int = 1
    may_be_refused: bool = False
    refused_within_s: float = REFUSED_WITHIN_S
    held: Sequence[Held] = ()
    registered: Sequence[str] = ()  # institutions whose registration was answered
    asked: Sequence[str] = ()  # notices that were asked for

    @cached_property
    def by_decision(self) -> Mapping[str, Decision]:
        """Return the saved decisions by id."""
        return {decision.decision_id: decision for decision in self.found.decisions}

    @cached_property
    def by_transaction(self) -> Mapping[Sent, list[Decision]]:
        """Return the saved decisions by institution and transaction: two institutions may use the same id."""
        found: defaultdict[Sent, list[Decision]] = defaultdict(list)
        for decision in self.found.decisions:
            found[decision.institution_id, decision.transaction_id].append(decision)
        return found

    @cached_property
    def institutions(self) -> Mapping[str, set[str]]:
        """Return who has decisions of each transaction id."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for institution_id, transaction_id in self.by_transaction:
            found[transaction_id].add(institution_id)
        return found

    @cached_property
    def acknowledged(self) -> list[Attempt]:
        """Return the requests that were answered with a decision."""
        return [attempt for attempt in self.history if attempt.decision_id is not None]

    def sent(self, attempt: Attempt) -> Sent:
        """Return institution and transaction of a request; the institution is empty where it cannot be told."""
        institution_id = attempt.institution_id
        if not institution_id and (decision := self.by_decision.get(attempt.decision_id or "")):
            institution_id = decision.institution_id
        elif not institution_id:
            having = self.institutions.get(attempt.transaction_id, set())
            institution_id = next(iter(having)) if len(having) == 1 else ""
        return institution_id, attempt.transaction_id

    def may_get(self, institution_id: str, address: str) -> bool:
        """Say whether alerts of an institution may go to an address; any may where nobody looked."""
        return self.found.admins is None or address in self.found.admins.get(institution_id, frozenset())


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
    wanted = {case.sent(attempt) for attempt in case.history if attempt.wanted is Wanted.DECISION}
    answered = {case.sent(attempt) for attempt in case.acknowledged}
    somewhere = {transaction_id for _, transaction_id in answered}
    for institution_id, transaction_id in wanted - answered:
        if institution_id or transaction_id not in somewhere:
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
    ours = {decision.alert_id: decision.institution_id for decision in case.found.decisions}
    told = {alert_id for alert_id, address in mails if case.may_get(ours.get(alert_id, ""), address)}
    told |= case.found.muted if case.may_be_refused else frozenset()
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
            invariant = "I8" if line.record_id in case.found.decision_ids else "I4"
            yield Breach(invariant, "archived and not saved", (line.record_id, line.key))
    for mail in case.found.mails or ():
        for alert_id in mail.alert_ids - ours.keys():
            invariant = "I8" if alert_id in everybodys else "I4"
            yield Breach(invariant, "mailed without a decision of this institution", (alert_id, mail.mail_id))
    flagged = {alert_id for alert_id, decision in ours.items() if decision.flagged}
    for alert_id in case.found.alert_ids - flagged:
        yield Breach("I4", "an alert without a flagged decision", (alert_id,))


def a_transaction_has_one_answer(case: Case) -> Iterator[Breach]:
    """I5."""
    for (institution_id, transaction_id), decisions in case.by_transaction.items():
        if len(decisions) > 1:
            yield Breach("I5", f"decided {len(decisions)} times", (transaction_id, institution_id))
    for key in case.found.orphan_keys:
        orphan = (key.transaction_id, key.institution_id, key.decision_id)
        yield Breach("I5", "an idempotency key without a decision", orphan)
    for decision in case.found.decisions:
        if decision.key_decision_id != decision.decision_id:
            yield Breach("I5", "without its own idempotency key", (decision.decision_id,))
        elif decision.body_sha256 != _transaction_sha256(decision):
            yield Breach("I5", "its key is of another body", (decision.decision_id,))
    answers: defaultdict[Sent, list[Attempt]] = defaultdict(list)
    for attempt in case.acknowledged:
        answers[case.sent(attempt)].append(attempt)
    for (_, transaction_id), attempts in answers.items():
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
    nothing_is_held,
    nothing_waits,
)


def _other_bodies(case: Case) -> Iterator[Breach]:
    """Compare what was sent with what is saved: another body is a conflict, and only another body is."""
    for attempt in case.history:
        decisions = case.by_transaction.get(case.sent(attempt))
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
    """Return what was sent as it would be saved, None where it is no transaction; read as ai_service reads it."""
    try:
        return orjson.loads(read_model(attempt.body.encode(), Transaction).body)
    except (MalformedJsonError, InvalidRequestError):
        return None


def _transaction_sha256(decision: Decision) -> str:
    return sha256_hex(canonical_bytes(orjson.loads(decision.record)["transaction"]))


def _breach(invariant: str, what: str, attempt: Attempt, *ids: str | None) -> Breach:
    return Breach(invariant, what, (attempt.transaction_id, *(each for each in ids if each)))
