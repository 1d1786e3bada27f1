"""Decides what to answer. Pure: a function of the probability, the rule hits and the policy."""

from collections.abc import Sequence
from typing import NamedTuple

from ai_service.policies.policy import Policy
from ai_service.rules.engine import RuleHit
from common.contracts.decisions import EnforcementMode, Outcome, RiskLevel, RuleAction

STRICTNESS = {outcome: rank for rank, outcome in enumerate(Outcome)}
_LEVELS = (RiskLevel.LOW, RiskLevel.MEDIUM, RiskLevel.HIGH)
_BAND_OUTCOMES = (Outcome.APPROVE, Outcome.CHALLENGE, Outcome.DECLINE)
_RULE_OUTCOMES = {
    RuleAction.ALLOW: Outcome.APPROVE,
    RuleAction.CHALLENGE: Outcome.CHALLENGE,
    RuleAction.REVIEW: Outcome.REVIEW,
    RuleAction.BLOCK: Outcome.DECLINE,
}


class Decision(NamedTuple):
    """What is answered, and what led to it. `risk_score` is 0-100, unrounded; `modifier` is in its points."""

    outcome: Outcome
    policy_outcome: Outcome
    policy: Policy
    fraud_probability: float
    risk_score: float
    modifier: float
    band: int
    rule_hits: tuple[RuleHit, ...]
    flagged: bool

    @property
    def risk_level(self) -> RiskLevel:
        """Return the name of the band."""
        return _LEVELS[self.band]


def decide(fraud_probability: float, rule_hits: Sequence[RuleHit], *, policy: Policy) -> Decision:
    """Return the decision: an allow rule wins over all, otherwise the strictest of rules and the score's band."""
    counting = [hit.rule for hit in rule_hits if hit.counts] if rule_hits else []
    modifier = sum([rule.score_modifier for rule in counting])
    risk_score = min(100.0, max(0.0, 100.0 * fraud_probability + modifier))
    band = (risk_score >= 100.0 * policy.challenge_from) + (risk_score >= 100.0 * policy.decline_from)
    policy_outcome = _band_outcome(band, policy)
    if counting:
        asked = {_RULE_OUTCOMES[rule.action] for rule in counting}
        strictest = max({policy_outcome, *asked}, key=STRICTNESS.__getitem__)
        policy_outcome = Outcome.APPROVE if Outcome.APPROVE in asked else strictest
    return Decision(
        outcome=policy_outcome if policy.mode is EnforcementMode.ENFORCE else Outcome.APPROVE,
        policy_outcome=policy_outcome,
        policy=policy,
        fraud_probability=fraud_probability,
        risk_score=risk_score,
        modifier=modifier,
        band=band,
        rule_hits=tuple(rule_hits),
        flagged=policy_outcome is not Outcome.APPROVE or any(rule.alert for rule in counting),
    )


def _band_outcome(band: int, policy: Policy) -> Outcome:
    outcome = _BAND_OUTCOMES[band]
    if outcome is Outcome.DECLINE and not policy.model_may_decline:
        return Outcome.REVIEW
    return outcome
