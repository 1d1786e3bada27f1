"""Decides saved decisions again from what was saved with them, and compares every bit (I7)."""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from ai_service.ml.predictor import FraudModel
from ai_service.ml.registry import load_current
from ai_service.scoring.record import feature_vector, parse_record
from tests.faults.decision_evidence import Decision
from tests.faults.invariants import Breach


def replayed_differently(decisions: Iterable[Decision], models_dir: Path) -> Iterator[Breach]:
    """Yield the decisions whose features no longer give their probability, with the model they name."""
    model = load_current(models_dir)
    for decision in decisions:
        yield from _differences(decision, model)


def _differences(decision: Decision, model: FraudModel) -> Iterator[Breach]:
    record = parse_record(decision.record)
    answer = record["decision"]
    if answer.get("model") != {"name": model.name, "version": model.version}:
        yield Breach("I7", f"decided with another model: {answer.get('model')}", (decision.decision_id,))
        return
    again = model.predict(feature_vector(record, model.feature_names))
    if struct.pack("<d", again) != struct.pack("<d", answer["fraud_probability"]):
        what = f"its features give {again!r}, saved is {answer['fraud_probability']!r}"
        yield Breach("I7", what, (decision.decision_id,))
