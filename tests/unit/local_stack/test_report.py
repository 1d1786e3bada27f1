"""What the person at the terminal sees of the demo."""

import json

from rich.console import Console

from common.contracts.decisions import DeliveryStatus, Outcome, ScoredTransaction
from local_stack import report
from local_stack.sender import Answer
from local_stack.tally import Tally
from tests.factories import make_transaction

REASON = {"code": "NIGHT_TIME", "message": "It is night", "contribution": 1.25, "source": "model"}


def make_answer(
    outcome: Outcome = Outcome.APPROVE,
    *,
    risk_score: int = 5,
    has_reasons: bool = True,
    latency_ms: float = 4.0,
    alert: DeliveryStatus = DeliveryStatus.NOT_NEEDED,
) -> Answer:
    scored = ScoredTransaction.model_validate(
        {
            "decision_id": f"dec_{outcome}_{risk_score}",
            "decision_sequence": 1,
            "transaction_id": "tx-1",
            "outcome": outcome,
            "policy_outcome": outcome,
            "mode": "enforce",
            "risk_score": risk_score,
            "fraud_probability": 0.5,
            "confidence": 0.9,
            "risk_level": "low",
            "reasons": [REASON] if has_reasons else [],
            "signals": None,
            "rule_hits": [],
            "model": {"name": "m", "version": "1"},
            "ruleset_version": 1,
            "policy_version": 1,
            "enrichment": {"geo": {"status": "found", "country": "DE", "city": "[Berlin]"}},
            "degraded": [],
            "deliveries": {"alert": alert, "audit": "delivered"},
            "review_id": None,
            "timings_ms": {},
            "created_at": "2026-11-02T12:00:00+00:00",
        }
    )
    return Answer(make_transaction(), scored, latency_ms)


def shown(answers: list[Answer]) -> str:
    console = Console(record=True, width=120)
    report.show_demo(console, answers)
    return console.export_text()


class TestExamples:
    def test_are_the_riskiest_of_each_outcome_with_the_strictest_first(self) -> None:
        answers = [
            make_answer(Outcome.CHALLENGE, risk_score=50),
            make_answer(Outcome.DECLINE, risk_score=80),
            make_answer(Outcome.DECLINE, risk_score=95),
            make_answer(Outcome.REVIEW, risk_score=60),
            make_answer(Outcome.APPROVE, risk_score=10),
        ]

        found = [(example.scored.outcome, example.scored.risk_score) for example in report.examples(answers)]

        assert found == [(Outcome.DECLINE, 95), (Outcome.REVIEW, 60), (Outcome.CHALLENGE, 50)]

    def test_have_reasons(self) -> None:
        assert report.examples([make_answer(Outcome.DECLINE, has_reasons=False)]) == []


class TestPercentile:
    def test_is_a_value_that_was_seen(self) -> None:
        values = [float(number) for number in range(1, 101)]

        assert report.percentile(values, 0.50) == 51
        assert report.percentile(values, 0.99) == 100

    def test_of_one_value_is_that_value(self) -> None:
        assert report.percentile([7.0], 0.99) == 7.0


class TestShowDemo:
    def test_counts_every_outcome(self) -> None:
        text = shown([make_answer(), make_answer(), make_answer(), make_answer(Outcome.DECLINE)])

        rows = {
            line.split("│")[1].strip(): line.split("│")[2].strip()
            for line in text.splitlines()
            if "%" in line
        }
        assert rows == {"approve": "3", "challenge": "0", "review": "0", "decline": "1"}

    def test_shows_reasons_and_takes_no_text_for_markup(self) -> None:
        text = shown([make_answer(Outcome.DECLINE)])

        assert "+1.25  It is night (model)" in text
        assert "[Berlin]" in text


class TestAcknowledgement:
    def test_expects_an_alert_unless_none_is_needed(self) -> None:
        assert make_answer(alert=DeliveryStatus.PENDING).acknowledgement.flagged
        assert make_answer(alert=DeliveryStatus.DELIVERED).acknowledgement.flagged
        assert not make_answer(alert=DeliveryStatus.NOT_NEEDED).acknowledgement.flagged


class TestTallyLine:
    def test_is_one_json_object_with_these_names_in_this_order(self) -> None:
        line = report.tally_line(
            Tally(
                acknowledged=3,
                saved=3,
                archived=3,
                alerts_expected=1,
                alerts_delivered=1,
                lost=0,
                duplicates=0,
            )
        )

        assert line.endswith('"lost":0,"duplicates":0}')
        assert list(json.loads(line)) == [
            "acknowledged",
            "saved",
            "archived",
            "alerts_expected",
            "alerts_delivered",
            "lost",
            "duplicates",
        ]
