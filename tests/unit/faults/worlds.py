"""A small world in which every promise was kept, for tests that break one at a time."""

from dataclasses import dataclass, replace
from typing import Any

import orjson

from common.canonical import canonical_bytes, sha256_hex
from tests.factories import make_transaction
from tests.faults.evidence import ArchivedLine, Decision, Evidence, Mail
from tests.faults.history import Attempt, Ending
from tests.faults.identity import identity_breaches
from tests.faults.identity_evidence import IdentityEvent, TakenNotice
from tests.faults.invariants import Breach, Case, breaches

OURS, EMAIL = "ins_ours", "ann@assay.example"


@dataclass(frozen=True)
class World:
    """What clients heard, and what is there."""

    history: list[Attempt]
    found: Evidence

    def with_found(self, **changes: Any) -> "World":  # noqa: ANN401 - any field
        return replace(self, found=replace(self.found, **changes))

    def with_history(self, *more: Attempt) -> "World":
        return replace(self, history=[*self.history, *more])

    def breaches(self, **options: Any) -> list[Breach]:  # noqa: ANN401 - any field of a case
        case = Case(self.history, self.found, **options)
        return breaches(case) + identity_breaches(case)


def make_decision(number: int, *, flagged: bool = False, **changes: Any) -> Decision:  # noqa: ANN401
    transaction = make_transaction(transaction_id=f"tx-{number}")
    decision_id = f"dec_{number:026d}"
    answer = {"decision_id": decision_id, "transaction_id": f"tx-{number}", "fraud_probability": 0.25}
    record = {"transaction": orjson.loads(transaction.body), "decision": answer}
    fields: dict[str, Any] = {
        "decision_id": decision_id,
        "institution_id": OURS,
        "transaction_id": f"tx-{number}",
        "sequence": number,
        "flagged": flagged,
        "body_sha256": sha256_hex(transaction.body),
        "key_decision_id": decision_id,
        "record": canonical_bytes(record),
        **changes,
    }
    return Decision(**fields)


def make_attempt(decision: Decision, **changes: Any) -> Attempt:  # noqa: ANN401 - any field
    transaction = make_transaction(transaction_id=decision.transaction_id)
    fields: dict[str, Any] = {
        "transaction_id": decision.transaction_id,
        "body": transaction.body.decode(),
        "sent_ms": 1_000,
        "ended_ms": 1_005,
        "latency_ms": 5.0,
        "ending": Ending.OK,
        "status": 200,
        "answer": {
            **orjson.loads(decision.record)["decision"],
            "deliveries": {"alert": "pending", "audit": "delivered"},
        },
        **changes,
    }
    return Attempt(**fields)


def archived(decision: Decision, *, key: str = "audit/sandbox/ins_ours/one") -> ArchivedLine:
    return ArchivedLine(key, decision.decision_id, decision.record)


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
    fields: dict[str, Any] = {
        "event_id": event_id,
        "institution_id": OURS,
        "sequence": number,
        "action": action,
        "body": canonical_bytes({"event": {"event_id": event_id, "event_sequence": number}}),
        **changes,
    }
    return IdentityEvent(**fields)


def archived_event(event: IdentityEvent, *, key: str = "audit/sandbox/ins_ours/events") -> ArchivedLine:
    return ArchivedLine(key, event.event_id, event.body, is_event=True)


NOTICE = TakenNotice(f"ntc_{1:026d}", "delivered", has_secret=False)
FINE, FLAGGED, LAST = make_decision(1), make_decision(2, flagged=True), make_decision(3)


def good_world() -> World:
    """Return three transactions, one of them flagged, two identity events and a notice, all of them told."""
    decisions = [FINE, FLAGGED, LAST]
    events = [make_event(1), make_event(2)]
    return World(
        history=[make_attempt(decision) for decision in decisions],
        found=Evidence(
            decisions=decisions,
            decision_ids=frozenset(decision.decision_id for decision in decisions),
            archived=[archived(decision) for decision in decisions],
            mails=[mailed(FLAGGED)],
            alert_ids=frozenset({FLAGGED.alert_id}),
            events=events,
            archived_events=[archived_event(event) for event in events],
            notices=[NOTICE],
            notice_mails=[mailed(notice_ids=frozenset({NOTICE.notice_id}))],
        ),
    )
