"""Turns what the stages found into a draft that can be saved: explains where it must, and joins it all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.velocity import VelocityReading
from ai_service.ml.predictor import FraudModel
from ai_service.scoring.decision import Decision
from ai_service.scoring.explanation import model_reasons, rule_reasons, signals
from ai_service.scoring.record import Draft, Explanation, make_draft
from common.clock import utc_now
from common.contracts.geoip import GeoLocation
from common.failpoints import failpoint


@dataclass(frozen=True)
class Drafts:
    """Makes drafts with one model and one ruleset."""

    model: FraudModel
    ruleset_version: int

    def make(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        velocity: VelocityReading,
        features: NDArray[np.float64],
        decision: Decision,
    ) -> Draft:
        """Return the draft of `decision`; a flagged one carries the model's reasons."""
        accepted.timer.lap("score")
        failpoint("score.after_decision")
        explanation = self._explain(features, decision)
        accepted.timer.lap("explain")
        return make_draft(
            accepted,
            location=location,
            observed_sequence=velocity.observed_sequence,
            features=features,
            decision=decision,
            explanation=explanation,
            model=self.model,
            ruleset_version=self.ruleset_version,
            created_at=utc_now(),
        )

    def _explain(self, features: NDArray[np.float64], decision: Decision) -> Explanation:
        confidence = self.model.bands(decision.policy.cuts).confidence(
            decision.fraud_probability, decision.band, modifier=decision.modifier
        )
        reasons = rule_reasons(decision.rule_hits)
        if not decision.flagged:
            return Explanation(reasons, None, confidence)
        contributions = self.model.contributions(features)
        return Explanation(
            [*reasons, *model_reasons(features, contributions, self.model.feature_names)],
            signals(contributions, self.model.feature_names),
            confidence,
        )
