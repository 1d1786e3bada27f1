"""The whole story of a transaction, top to bottom."""

from dataclasses import dataclass
from datetime import datetime

from ai_service.features.definitions import FeaturePlan
from ai_service.ml.predictor import FraudModel
from ai_service.policies.policy import Policies
from ai_service.rules.engine import Ruleset
from ai_service.scoring.decision import decide
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.enrichment import Enrichment
from ai_service.scoring.in_flight import Answer, InFlight
from ai_service.scoring.publisher import Publisher
from common.admission import Admission
from common.auth.principal import Principal
from common.contracts.transactions import Transaction


@dataclass(frozen=True)
class TransactionScorer:
    """Scores transactions; every door of this service leads here."""

    admission: Admission
    in_flight: InFlight
    enrichment: Enrichment
    features: FeaturePlan
    model: FraudModel
    rules: Ruleset
    policies: Policies
    drafts: Drafts
    publisher: Publisher

    async def score(
        self, transaction: Transaction, caller: Principal, *, now: datetime, request_id: str = ""
    ) -> Answer:
        """Score one transaction, save the decision, then tell the other services."""
        if running := self.in_flight.find(caller.institution_id, transaction):  # the same id is being scored
            return await running
        with self.admission.place(), self.in_flight.entry(caller.institution_id, transaction) as entry:
            accepted = self.enrichment.accept(transaction, caller, now=now, request_id=request_id)
            location, velocity = await self.enrichment.read(accepted)
            features = self.features.build(accepted, location=location, velocity=velocity)
            fraud_probability = self.model.predict(features)
            rule_hits = self.rules.evaluate(accepted, location, features, fraud_probability)
            decision = decide(fraud_probability, rule_hits, policy=self.policies.of(caller.tenant))
            draft = self.drafts.make(accepted, location, velocity, features, decision)
            return entry.set(await self.publisher.save_then_tell(draft))
