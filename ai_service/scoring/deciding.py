"""From what is known of transactions to their drafts: each stage runs for all who wait before the next one begins.

Taken one transaction at a time, the stages push one another out of the processor's caches, which costs several times
what a stage itself does (docs/decisions/0008).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ai_service.features.definitions import FeaturePlan
from ai_service.features.store import Located, VelocityStore
from ai_service.ml.predictor import FraudModel
from ai_service.policies.policy import Policies
from ai_service.rules.engine import Ruleset
from ai_service.scoring.decision import decide
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.record import Draft
from common.failpoints import failpoint

_log = structlog.get_logger()


@dataclass(frozen=True)
class Deciding:
    """The stages between a transaction whose location is known and the draft of its decision."""

    velocity: VelocityStore
    features: FeaturePlan
    model: FraudModel
    rules: Ruleset
    policies: Policies
    drafts: Drafts

    async def decide_all(self, waiting: Sequence[Located]) -> list[Draft | Exception]:
        """Return the draft of each; what one of them raises takes no other along."""
        try:
            return [*await self._together(waiting)]
        except Exception as error:  # noqa: BLE001 - the boundary: some of them are to be answered all the same
            _log.warning("deciding.together_failed", items=len(waiting), error=type(error).__name__)
        return [await self._alone(each) for each in waiting]

    async def _alone(self, located: Located) -> Draft | Exception:
        try:
            return (await self._together([located]))[0]  # what was observed already is not counted again
        except Exception as error:  # noqa: BLE001 - it becomes this one's own result
            _log.exception("deciding.failed")
            return error

    async def _together(self, waiting: Sequence[Located]) -> list[Draft]:
        accepted = [transaction for transaction, _ in waiting]
        locations = [location for _, location in waiting]
        for each in accepted:
            each.timer.lap("wait")
        readings = await self.velocity.observe_all(waiting)
        failpoint("score.after_enrichment")
        features = [
            self.features.build(each, location=location, velocity=velocity)
            for each, location, velocity in zip(accepted, locations, readings, strict=True)
        ]
        probabilities = list(map(self.model.predict, features))
        hits = list(map(self.rules.evaluate, accepted, locations, features, probabilities))
        decisions = [
            decide(probability, rule_hits, policy=self.policies.of(each.institution))
            for each, probability, rule_hits in zip(accepted, probabilities, hits, strict=True)
        ]
        return list(map(self.drafts.make, accepted, locations, readings, features, decisions))
