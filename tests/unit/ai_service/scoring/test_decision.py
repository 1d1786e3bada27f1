import pytest

from ai_service.policies.policy import Policy, built_in_policies
from ai_service.scoring.decision import decide
from common.contracts.decisions import EnforcementMode, Outcome, RiskLevel, RuleAction, RuleMode
from tests.factories import LIVE, SANDBOX, make_rule_hit

POLICY = Policy()


class TestDecide:
    @pytest.mark.parametrize(
        ("probability", "outcome", "level"),
        [
            (0.0, Outcome.APPROVE, RiskLevel.LOW),
            (0.3499, Outcome.APPROVE, RiskLevel.LOW),
            (0.35, Outcome.CHALLENGE, RiskLevel.MEDIUM),
            (0.6499, Outcome.CHALLENGE, RiskLevel.MEDIUM),
            (0.65, Outcome.DECLINE, RiskLevel.HIGH),
            (1.0, Outcome.DECLINE, RiskLevel.HIGH),
        ],
    )
    def test_follows_the_band_of_the_score(
        self, probability: float, outcome: Outcome, level: RiskLevel
    ) -> None:
        decision = decide(probability, [], policy=POLICY)

        assert decision.policy_outcome is outcome
        assert decision.risk_level is level

    def test_declines_when_a_block_rule_hits(self) -> None:
        decision = decide(0.05, [make_rule_hit(action=RuleAction.BLOCK)], policy=POLICY)

        assert decision.outcome is Outcome.DECLINE

    def test_takes_the_strictest_of_rules_and_band(self) -> None:
        hits = [make_rule_hit(action=RuleAction.CHALLENGE), make_rule_hit(action=RuleAction.REVIEW)]

        assert decide(0.1, hits, policy=POLICY).outcome is Outcome.REVIEW
        assert decide(0.9, hits, policy=POLICY).outcome is Outcome.DECLINE

    def test_an_allow_rule_wins_over_everything(self) -> None:
        hits = [make_rule_hit(action=RuleAction.ALLOW), make_rule_hit(action=RuleAction.BLOCK)]

        decision = decide(0.99, hits, policy=POLICY)

        assert decision.outcome is Outcome.APPROVE
        assert decision.risk_level is RiskLevel.HIGH

    @pytest.mark.parametrize("hit", [{"mode": RuleMode.SHADOW}, {"error": "division by zero"}])
    def test_shadow_rules_and_failed_rules_do_not_count(self, hit: dict[str, object]) -> None:
        hits = [make_rule_hit(action=RuleAction.BLOCK, score_modifier=50, alert=True, **hit)]  # type: ignore[arg-type]

        decision = decide(0.1, hits, policy=POLICY)

        assert decision.outcome is Outcome.APPROVE
        assert decision.risk_score == 10.0
        assert not decision.flagged

    def test_modifiers_move_the_score_and_its_band_but_never_out_of_range(self) -> None:
        up = make_rule_hit(action=RuleAction.CHALLENGE, score_modifier=40)

        assert decide(0.3, [up], policy=POLICY).risk_level is RiskLevel.HIGH
        assert decide(0.9, [up], policy=POLICY).risk_score == 100.0
        down = make_rule_hit(action=RuleAction.CHALLENGE, score_modifier=-40)
        assert decide(0.1, [down], policy=POLICY).risk_score == 0.0

    def test_flags_what_is_not_approved_and_what_a_rule_wants_told(self) -> None:
        told = make_rule_hit(action=RuleAction.ALLOW, alert=True)

        assert not decide(0.1, [], policy=POLICY).flagged
        assert decide(0.4, [], policy=POLICY).flagged
        assert decide(0.1, [told], policy=POLICY).flagged

    def test_in_observe_mode_the_answer_is_approve_and_the_policy_outcome_says_the_rest(self) -> None:
        decision = decide(0.9, [], policy=Policy(mode=EnforcementMode.OBSERVE))

        assert decision.outcome is Outcome.APPROVE
        assert decision.policy_outcome is Outcome.DECLINE
        assert decision.flagged

    def test_a_simulated_model_does_not_decline_live_money_but_a_block_rule_does(self) -> None:
        policy = built_in_policies(model_is_simulated=True).of(LIVE)

        assert decide(0.9, [], policy=policy).policy_outcome is Outcome.REVIEW
        block = make_rule_hit(action=RuleAction.BLOCK)
        assert decide(0.9, [block], policy=policy).policy_outcome is Outcome.DECLINE


class TestBuiltInPolicies:
    def test_sandboxes_enforce_and_live_institutions_observe(self) -> None:
        policies = built_in_policies(model_is_simulated=False)

        assert policies.of(SANDBOX).mode is EnforcementMode.ENFORCE
        assert policies.of(LIVE).mode is EnforcementMode.OBSERVE
        assert policies.of(LIVE).model_may_decline
