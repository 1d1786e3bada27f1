"""What must hold of each decision by itself: its row, its record and its object say the same. Pure.

The names are those of `invariants`: I2 a row and an object's key say what the record says, I3 what must be told is
flagged, I8 nothing lies under another institution's prefix.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from common.contracts.audit_records import RecordKind
from common.contracts.decisions import Outcome, RuleMode
from tests.faults.decision_evidence import Decision
from tests.faults.evidence import ArchivedLine
from tests.faults.invariants import Breach, Case

# by column of the row: where the record has the same. `observed_sequence` is counted again when velocity is rebuilt
RECORDED: Mapping[str, Sequence[tuple[str, str]]] = {
    "decision_id": [("decision", "decision_id")],
    "institution_id": [("institution", "institution_id")],
    "transaction_id": [("transaction", "transaction_id"), ("decision", "transaction_id")],
    "customer_id": [("transaction", "customer_id")],
    "sequence": [("decision", "decision_sequence")],
    "outcome": [("decision", "outcome")],
    "policy_outcome": [("decision", "policy_outcome")],
    "risk_level": [("decision", "risk_level")],
    "flagged": [("exact", "flagged")],
    "schema_version": [("decision", "schema_version")],
}
TIMES = {"event_time_ms": ("transaction", "event_time"), "created_at_ms": ("decision", "created_at")}
ROUNDED_MS = 1  # a time in microseconds goes through a float
_FILE = re.compile(r"([a-z]+)-\d{12,}\.ndjson\.gz")


def record_breaches(case: Case) -> list[Breach]:
    """Return everything that does not hold."""
    return [breach for check in CHECKS for breach in check(case)]


def rows_say_what_records_say(case: Case) -> Iterator[Breach]:
    """I2, and I3 for what must be flagged."""
    for decision in case.found.decisions:
        record = orjson.loads(decision.record)
        for column, places in RECORDED.items():
            saved = getattr(decision, column)
            for part, name in places:
                recorded = _at(record, part, name)
                if recorded != saved:
                    what = f"its row has {column} {saved!r}, its record {part}.{name} {recorded!r}"
                    yield Breach("I2", what, (decision.decision_id,))
        yield from _other_times(decision, record)
        yield from _flagged_wrongly(decision, record)


def objects_lie_where_they_belong(case: Case) -> Iterator[Breach]:
    """I8 for institution and mode, I2 for day and kind."""
    for line in case.found.archived or ():
        decision = case.by_decision.get(line.record_id)
        if decision is not None:
            yield from _misplaced(line, decision.institution_id, decision.record, RecordKind.DECISION)
    events = {event.event_id: event for event in case.found.events or ()}
    for line in case.found.archived_events or ():
        event = events.get(line.record_id)
        if event is not None:
            yield from _misplaced(line, event.institution_id, event.body, RecordKind.IDENTITY)


CHECKS: Sequence[Callable[[Case], Iterable[Breach]]] = (
    rows_say_what_records_say,
    objects_lie_where_they_belong,
)


def _other_times(decision: Decision, record: Mapping[str, Any]) -> Iterator[Breach]:
    for column, (part, name) in TIMES.items():
        saved, recorded = getattr(decision, column), _at(record, part, name)
        if recorded is None or abs(_ms(recorded) - saved) > ROUNDED_MS:
            what = f"its row has {column} {saved}, its record {part}.{name} {recorded}"
            yield Breach("I2", what, (decision.decision_id,))
    keyed_ms = decision.key_created_at_ms
    if keyed_ms is not None and keyed_ms != decision.created_at_ms:
        what = f"its row has created_at_ms {decision.created_at_ms}, its idempotency key {keyed_ms}"
        yield Breach("I2", what, (decision.decision_id,))


def _flagged_wrongly(decision: Decision, record: Mapping[str, Any]) -> Iterator[Breach]:
    """Compare with the rule: all but approve is flagged, and approve only where a rule that counts asks for it.

    Whether a rule asks for an alert is no part of a record, so one that was asked for and never raised beside an
    approve is not seen here.
    """
    policy_outcome = _at(record, "decision", "policy_outcome")
    if policy_outcome != Outcome.APPROVE:
        if not decision.flagged:
            yield Breach(
                "I3", f"not flagged, though the policy says {policy_outcome}", (decision.decision_id,)
            )
    elif decision.flagged and not any(map(_counts, _at(record, "decision", "rule_hits") or ())):
        yield Breach(
            "I3", "flagged, though the policy says approve and no rule counts", (decision.decision_id,)
        )


def _counts(hit: Mapping[str, Any]) -> bool:
    return hit["mode"] == RuleMode.LIVE and hit["error"] is None


def _misplaced(line: ArchivedLine, institution_id: str, body: bytes, kind: RecordKind) -> Iterator[Breach]:
    record = orjson.loads(body)
    part = "decision" if kind is RecordKind.DECISION else "event"
    created_at, mode = _at(record, part, "created_at"), _at(record, "institution", "mode")
    day = _time(created_at).astimezone(UTC).strftime("%Y/%m/%d") if created_at else None
    prefix, _, rest = line.key.partition(f"/{institution_id}/")
    folder, _, file = rest.rpartition("/")
    if prefix != f"audit/{mode}":
        yield Breach("I8", f"archived apart from audit/{mode}/{institution_id}", (line.record_id, line.key))
        return
    if folder != day:
        yield Breach("I2", f"archived under another day than {day}", (line.record_id, line.key))
    name = _FILE.fullmatch(file)
    if name is None or name[1] != kind:
        yield Breach("I2", f"archived under another name than {kind}", (line.record_id, line.key))


def _at(record: Mapping[str, Any], part: str, name: str) -> Any:  # noqa: ANN401 - any JSON
    return (record.get(part) or {}).get(name)


def _ms(text: str) -> int:
    return int(_time(text).timestamp() * 1000)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
