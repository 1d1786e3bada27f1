"""A small world in which every promise was kept, for tests that break one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from common.canonical import canonical_bytes, sha256_hex
from common.contracts.transactions import Transaction
from tests.factories import make_transaction
from tests.faults.check_history import all_breaches
from tests.faults.decision_evidence import Decision
from tests.faults.evidence import ArchivedLine, Evidence, Mail
from tests.faults.history import Attempt, Ending
from tests.faults.identity_evidence import IdentityEvent, TakenNotice
from tests.faults.invariants import Breach, Case

OURS, EMAIL, SECOND_EMAIL = "ins_ours", "ann@assay.example", "bob@assay.example"
CREATED_AT, CREATED_AT_MS = "2026-11-02T12:00:00.250000Z", 1793620800250


@dataclass(frozen=True)
class World:
    """What clients heard, and what is there."""

    history: list[Attempt]
    found: Evidence

    def with_found(self, **changes: Any) -> "World":  # noqa: ANN401 - any field
        return replace(self, found=replace(self.found, **changes))

    def with_history(self, *more: Attempt) -> "World":
        return replace(self, history=[*self.history, *more])

    def with_more(self, decision: Decision, **changes: Any) -> "World":  # noqa: ANN401 - any field of its attempt
        found = self.found
        return self.with_history(make_attempt(decision, **changes)).with_found(
            decisions=[*found.decisions, decision],
            decision_ids=found.decision_ids | {decision.decision_id},
            archived=[*(found.archived or ()), archived(decision)],
        )

    def breaches(self, **options: Any) -> list[Breach]:  # noqa: ANN401 - any field of a case
        return all_breaches(Case(self.history, self.found, **options))


def make_decision(number: int, *, flagged: bool = False, **changes: Any) -> Decision:  # noqa: ANN401
    """Return a decision whose record says what its row says; a flagged one is declined."""
    transaction_id, amount = changes.get("transaction_id", f"tx-{number}"), changes.pop("amount", "25.00")
    transaction = make_transaction(transaction_id=transaction_id, amount=amount)
    outcome = "decline" if flagged else "approve"
    fields: dict[str, Any] = {
        "decision_id": f"dec_{number:026d}",
        "institution_id": OURS,
        "transaction_id": transaction.transaction_id,
        "customer_id": transaction.customer_id,
        "sequence": number,
        "event_time_ms": int(transaction.event_time.timestamp() * 1000),
        "created_at_ms": CREATED_AT_MS,
        "outcome": outcome,
        "policy_outcome": outcome,
        "risk_level": "high" if flagged else "low",
        "flagged": flagged,
        "schema_version": 1,
        "body_sha256": sha256_hex(transaction.body),
        "key_created_at_ms": CREATED_AT_MS,
        **changes,
    }
    fields = {"key_decision_id": fields["decision_id"], "record": _record(fields, transaction), **fields}
    return Decision(**fields)


def _record(fields: Mapping[str, Any], transaction: Transaction) -> bytes:
    answer = {name: fields[name] for name in ("decision_id", "outcome", "policy_outcome", "risk_level")}
    answer |= {
        "decision_sequence": fields["sequence"],
        "transaction_id": transaction.transaction_id,
        "fraud_probability": 0.25,
        "rule_hits": [],
        "created_at": CREATED_AT,
        "schema_version": fields["schema_version"],
    }
    record = {
        "institution": {"institution_id": fields["institution_id"], "mode": "sandbox"},
        "transaction": orjson.loads(transaction.body),
        "decision": answer,
        "exact": {"flagged": fields["flagged"]},
    }
    return canonical_bytes(record)


def make_attempt(decision: Decision, **changes: Any) -> Attempt:  # noqa: ANN401 - any field
    transaction = make_transaction(transaction_id=decision.transaction_id)
    fields: dict[str, Any] = {
        "institution_id": decision.institution_id,
        "transaction_id": decision.transaction_id,
        "body": transaction.body.decode(),
        "sent_ms": 1_000,
        "ended_ms": 1_005,
        "latency_ms": 5.0,
        "ending": Ending.OK,
        "status": 200,
        "answer": {
            **orjson.loads(decision.record)["decision"],
            "deliveries": {"alert": "pending" if decision.flagged else "not_needed", "audit": "delivered"},
        },
        **changes,
    }
    return Attempt(**fields)


def object_key(institution_id: str = OURS, *, kind: str = "decision", number: int = 1) -> str:
    return f"audit/sandbox/{institution_id}/2026/11/02/{kind}-{number:012d}.ndjson.gz"


def archived(decision: Decision, *, key: str = "") -> ArchivedLine:
    return ArchivedLine(key or object_key(decision.institution_id), decision.decision_id, decision.record)


def mailed(*decisions: Decision, **changes: Any) -> Mail:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "mail_id": "mail_1",
        "recipients": (EMAIL,),
        "message_id": "<1@assay.example>",
        "alert_ids": frozenset(decision.alert_id for decision in decisions),
        **changes,
    }
    return Mail(**fields)


def make_event(number: int, **changes: Any) -> IdentityEvent:  # noqa: ANN401 - any field
    event_id = f"evt_{number:026d}"
    action = "institution.registered" if number == 1 else "user.name_changed"
    body = {
        "institution": {"institution_id": OURS, "mode": "sandbox"},
        "event": {"event_id": event_id, "event_sequence": number, "created_at": CREATED_AT},
    }
    fields: dict[str, Any] = {
        "event_id": event_id,
        "institution_id": OURS,
        "sequence": number,
        "action": action,
        "body": canonical_bytes(body),
        **changes,
    }
    return IdentityEvent(**fields)


def archived_event(event: IdentityEvent, *, key: str = "") -> ArchivedLine:
    return ArchivedLine(
        key or object_key(kind="identity", number=2), event.event_id, event.body, is_event=True
    )


NOTICE = TakenNotice(f"ntc_{1:026d}", "delivered", has_secret=False)
FINE, FLAGGED, LAST = make_decision(1), make_decision(2, flagged=True), make_decision(3)


def good_world(*decisions: Decision) -> World:
    """Return transactions (three, one of them flagged, unless some are given), two identity events and a notice, all told."""
    decisions = decisions or (FINE, FLAGGED, LAST)
    flagged = [decision for decision in decisions if decision.flagged]
    events = [make_event(1), make_event(2)]
    return World(
        history=[make_attempt(decision) for decision in decisions],
        found=Evidence(
            decisions=list(decisions),
            decision_ids=frozenset(decision.decision_id for decision in decisions),
            archived=[archived(decision) for decision in decisions],
            mails=[mailed(*flagged)],
            admins={OURS: frozenset({EMAIL, SECOND_EMAIL})},
            alert_ids=frozenset(decision.alert_id for decision in flagged),
            events=events,
            archived_events=[archived_event(event) for event in events],
            notices=[NOTICE],
            notice_mails=[mailed(notice_ids=frozenset({NOTICE.notice_id}))],
        ),
    )


def only(breaches: list[Breach]) -> Breach:
    assert len(breaches) == 1, breaches
    return breaches[0]


def with_answer(decision: Decision, **changes: object) -> Decision:
    record = orjson.loads(decision.record)
    record["decision"].update(changes)
    return replace(decision, record=canonical_bytes(record))
