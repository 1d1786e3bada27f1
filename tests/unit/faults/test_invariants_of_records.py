"""Rows, records and keys of objects that say different things are found and named."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from common.canonical import canonical_bytes
from tests.faults.decision_evidence import Decision
from tests.faults.invariants import Breach
from tests.unit.faults.worlds import (
    FINE,
    FLAGGED,
    LAST,
    archived,
    archived_event,
    good_world,
    make_decision,
    make_event,
    object_key,
    only,
    with_answer,
)

LIVE_RULE = {"action": "allow", "error": None, "mode": "live", "rule_id": "rul_1", "version": 1}


def with_record(decision: Decision, part: str, **changes: object) -> Decision:
    record = orjson.loads(decision.record)
    record[part].update(changes)
    return replace(decision, record=canonical_bytes(record))


class TestRows:
    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"flagged": True}, "its row has flagged False, its record exact.flagged True"),
            ({"flagged": None}, "its row has flagged False, its record exact.flagged None"),
        ],
    )
    def test_a_record_that_is_flagged_otherwise(self, changes: dict[str, Any], what: str) -> None:
        world = good_world(FINE, FLAGGED, with_record(LAST, "exact", **changes))

        assert only(world.breaches()) == Breach("I2", what, (LAST.decision_id,))

    @pytest.mark.parametrize(
        ("changes", "column"),
        [
            ({"decision_sequence": 7}, "sequence"),
            ({"transaction_id": "tx-7"}, "transaction_id"),
            ({"decision_id": "dec_7"}, "decision_id"),
            ({"outcome": "review"}, "outcome"),
            ({"risk_level": "medium"}, "risk_level"),
            ({"schema_version": 2}, "schema_version"),
            ({"created_at": "2026-11-02T12:00:01Z"}, "created_at_ms"),
            ({"created_at": None}, "created_at_ms"),
        ],
    )
    def test_a_decision_in_a_record_that_says_otherwise(self, changes: dict[str, Any], column: str) -> None:
        other = with_answer(LAST, **changes)
        world = good_world(FINE, FLAGGED, other)

        breaches = [each for each in world.breaches() if each.invariant == "I2" and "its row" in each.what]

        assert only(breaches).what.startswith(f"its row has {column} ")

    @pytest.mark.parametrize(
        ("changes", "column"),
        [
            ({"customer_id": "customer-7"}, "customer_id"),
            ({"event_time": "2026-11-02T11:00:00Z"}, "event_time_ms"),
        ],
    )
    def test_a_transaction_in_a_record_that_says_otherwise(
        self, changes: dict[str, Any], column: str
    ) -> None:
        world = good_world(FINE, FLAGGED, with_record(LAST, "transaction", **changes))

        whats = [breach.what for breach in world.breaches()]

        assert any(what.startswith(f"its row has {column} ") for what in whats)

    def test_a_record_of_another_institution(self) -> None:
        other = with_record(LAST, "institution", institution_id="ins_others")

        breach = only(good_world(FINE, FLAGGED, other).breaches())

        assert breach.what == (
            "its row has institution_id 'ins_ours', its record institution.institution_id 'ins_others'"
        )

    def test_a_key_of_another_time(self) -> None:
        world = good_world(FINE, FLAGGED, replace(LAST, key_created_at_ms=1))

        assert only(world.breaches()).what.endswith("its idempotency key 1")

    def test_a_key_need_have_no_time(self) -> None:
        assert good_world(FINE, FLAGGED, replace(LAST, key_created_at_ms=None)).breaches() == []


class TestFlagged:
    @pytest.mark.parametrize("policy_outcome", ["challenge", "review", "decline"])
    def test_a_lost_alert(self, policy_outcome: str) -> None:
        lost = make_decision(3, outcome="approve", policy_outcome=policy_outcome, risk_level="high")

        breach = only(good_world(FINE, FLAGGED, lost).breaches())

        what = f"not flagged, though the policy says {policy_outcome}"
        assert breach == Breach("I3", what, (lost.decision_id,))

    @pytest.mark.parametrize(
        "hits", [[], [LIVE_RULE | {"mode": "shadow"}], [LIVE_RULE | {"error": "no such field"}]]
    )
    def test_one_that_nothing_asked_for(self, hits: list[dict[str, Any]]) -> None:
        odd = make_decision(2, flagged=True, outcome="approve", policy_outcome="approve")

        breach = only(good_world(FINE, with_answer(odd, rule_hits=hits), LAST).breaches())

        assert breach.what == "flagged, though the policy says approve and no rule counts"

    def test_a_rule_may_ask_for_an_alert_beside_an_approve(self) -> None:
        asked = make_decision(2, flagged=True, outcome="approve", policy_outcome="approve")

        assert good_world(FINE, with_answer(asked, rule_hits=[LIVE_RULE]), LAST).breaches() == []


class TestKeysOfObjects:
    @pytest.mark.parametrize(
        ("key", "invariant"),
        [
            (object_key("ins_others"), "I8"),
            (object_key().replace("sandbox", "live"), "I8"),
            ("audit/sandbox/decision-000000000001.ndjson.gz", "I8"),
            (object_key().replace("/02/", "/03/"), "I2"),
            (object_key().replace("/2026/11/02", ""), "I2"),
            (object_key(kind="identity"), "I2"),
            (object_key().replace(".gz", ""), "I2"),
        ],
    )
    def test_an_object_elsewhere(self, key: str, invariant: str) -> None:
        world = good_world().with_found(archived=[archived(FINE), archived(FLAGGED), archived(LAST, key=key)])

        breach = only(world.breaches())

        assert (breach.invariant, breach.ids) == (invariant, (LAST.decision_id, key))

    @pytest.mark.parametrize(
        ("key", "invariant"),
        [(object_key("ins_others", kind="identity"), "I8"), (object_key(kind="decision"), "I2")],
    )
    def test_an_event_elsewhere(self, key: str, invariant: str) -> None:
        events = [make_event(1), make_event(2)]
        world = good_world().with_found(
            archived_events=[archived_event(events[0]), archived_event(events[1], key=key)]
        )

        breach = only(world.breaches())

        assert (breach.invariant, breach.ids) == (invariant, (events[1].event_id, key))
