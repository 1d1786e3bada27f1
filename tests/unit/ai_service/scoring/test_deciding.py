import numpy as np
import pytest
from numpy.typing import NDArray

from ai_service.features.accepted import AcceptedTransaction
from ai_service.features.store import EmbeddedVelocity, Located
from ai_service.policies.policy import built_in_policies
from ai_service.rules.catalog import starter_catalog
from ai_service.rules.engine import RuleHit, Ruleset
from ai_service.scoring.deciding import Deciding
from ai_service.scoring.drafts import Drafts
from ai_service.scoring.loading import Scoring, load_scoring
from ai_service.scoring.record import Draft
from common.contracts.geoip import GeoLocation
from tests.factories import LIVE, SANDBOX, make_accepted
from tests.models import DOUBTFUL, FINE, FRAUD, save_test_model

PLACE = GeoLocation(status="found", country="DE", latitude=52.5, longitude=13.4)


class RulesThatFail(Ruleset):
    """Rules that raise for one customer, as no condition can; a bug would."""

    def evaluate(
        self,
        accepted: AcceptedTransaction,
        location: GeoLocation,
        features: NDArray[np.float64],
        fraud_probability: float,
    ) -> list[RuleHit]:
        if accepted.transaction.customer_id == "unlucky":
            raise ZeroDivisionError
        return super().evaluate(accepted, location, features, fraud_probability)


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Scoring:
    models_dir = tmp_path_factory.mktemp("models")
    save_test_model(models_dir)
    return load_scoring(models_dir, None)


def deciding(scoring: Scoring, *, rules: Ruleset | None = None) -> Deciding:
    return Deciding(
        EmbeddedVelocity(),
        scoring.features,
        scoring.model,
        rules or scoring.rules,
        built_in_policies(model_is_simulated=True),
        Drafts(scoring.model, scoring.rules.version),
    )


def payments(*, customers: tuple[str, ...] = ("a", "b", "a", "c", "a")) -> list[Located]:
    amounts = (FINE, FRAUD, DOUBTFUL, FINE, "7.00")
    return [
        (
            make_accepted(
                transaction_id=f"t-{number}",
                customer_id=customer,
                amount=amounts[number],
                institution=LIVE if number == 3 else SANDBOX,
            ),
            PLACE,
        )
        for number, customer in enumerate(customers)
    ]


def found(draft: Draft | Exception) -> str:
    """Return what was decided, without ids and times; as text, in which NaN is like NaN."""
    assert isinstance(draft, Draft)
    record, answer = draft.record, draft.answer
    kept = ("outcome", "policy_outcome", "mode", "fraud_probability", "reasons", "rule_hits", "signals")
    return repr(
        (draft.observed_sequence, record["features"], record["exact"], [answer[name] for name in kept])
    )


class TestDecideAll:
    async def test_decides_together_what_it_decides_one_after_the_other(self, scoring: Scoring) -> None:
        together, alone = deciding(scoring), deciding(scoring)

        drafts = await together.decide_all(payments())

        assert [found(draft) for draft in drafts] == [
            found((await alone.decide_all([each]))[0]) for each in payments()
        ]
        assert len({found(draft) for draft in drafts}) == len(drafts)

    async def test_says_how_long_each_waited_for_its_turn(self, scoring: Scoring) -> None:
        drafts = await deciding(scoring).decide_all(payments())

        for draft in drafts:
            assert isinstance(draft, Draft)
            assert list(draft.answer["timings_ms"]) == ["explain", "score", "wait"]

    async def test_one_that_fails_takes_no_other_along_and_nobody_is_counted_twice(
        self, scoring: Scoring
    ) -> None:
        rules = starter_catalog()
        failing = RulesThatFail(rules.rules, version=1, feature_names=scoring.features.names)
        waiting = payments(customers=("a", "b", "unlucky", "c", "a"))

        drafts = await deciding(scoring, rules=failing).decide_all(waiting)

        expected = await deciding(scoring).decide_all(waiting)
        assert [isinstance(draft, ZeroDivisionError) for draft in drafts] == [
            False,
            False,
            True,
            False,
            False,
        ]
        del drafts[2], expected[2]
        assert [found(draft) for draft in drafts] == [found(draft) for draft in expected]
