from itertools import combinations
from math import factorial, isnan, log

import numpy as np
import pytest

from ai_service.ml import kernels
from ai_service.ml.trees import TreeArrays, extract_trees
from tests.unit.ai_service.ml.models import Floats, fit, make_model, make_rows


def worth(trees: TreeArrays, row: Floats, present: frozenset[int]) -> float:
    """Follow the definition: a split by an absent feature averages both sides by the rows that went there."""

    def of_node(node: int) -> float:
        feature = int(trees.feature[node])
        if feature < 0:
            return float(trees.value[node])
        left, right = int(trees.left[node]), int(trees.right[node])
        if feature not in present:
            parts = [trees.cover[child] * of_node(child) for child in (left, right)]
            return float(sum(parts) / trees.cover[node])
        value = row[feature]
        goes_left = trees.missing_left[node] if isnan(value) else value <= trees.threshold[node]
        return of_node(left if goes_left else right)

    return float(trees.baseline[0]) + sum(of_node(int(root)) for root in trees.roots)


def enumerated_shapley(trees: TreeArrays, row: Floats) -> Floats:
    """Sum over every coalition, straight from Shapley's formula."""
    everyone = range(len(row))
    found = np.zeros(len(row))
    worths = {
        frozenset(chosen): worth(trees, row, frozenset(chosen))
        for size in range(len(row) + 1)
        for chosen in combinations(everyone, size)
    }
    for coalition, value in worths.items():
        for feature in set(everyone) - coalition:
            orders = (
                factorial(len(coalition)) * factorial(len(row) - len(coalition) - 1) / factorial(len(row))
            )
            found[feature] += orders * (worths[coalition | {feature}] - value)
    return found


class TestRawScores:
    @pytest.mark.parametrize("leaves", [2, 7, 31])
    def test_equal_scikit_learn_bit_for_bit(self, leaves: int) -> None:
        estimator = fit(make_rows(4000, features=6), trees=60, leaves=leaves)
        rows = make_rows(2000, features=6, seed=9)
        rows[::50, 1], rows[1::50, 2] = np.inf, -np.inf
        model = make_model(extract_trees(estimator), features=6)

        scores = model.raw_scores(rows)

        assert np.array_equal(scores, estimator.decision_function(rows))

    def test_go_where_missing_values_went_when_a_feature_is_missing_everywhere(self) -> None:
        rows = make_rows(3000, features=4)
        estimator = fit(rows, trees=30)
        missing = np.full((1, 4), np.nan)

        scores = make_model(extract_trees(estimator), features=4).raw_scores(missing)

        assert np.array_equal(scores, estimator.decision_function(missing))

    def test_take_the_side_of_the_threshold_that_scikit_learn_takes(self) -> None:
        estimator = fit(make_rows(3000, features=4), trees=30)
        trees = extract_trees(estimator)
        splits = np.flatnonzero(trees.feature >= 0)
        rows = np.zeros((len(splits), 4))
        rows[np.arange(len(splits)), trees.feature[splits]] = trees.threshold[splits]

        scores = make_model(trees, features=4).raw_scores(rows)

        assert np.array_equal(scores, estimator.decision_function(rows))

    def test_are_the_baseline_when_every_tree_is_one_leaf(self) -> None:
        estimator = fit(make_rows(500, features=4), trees=2, min_samples_leaf=400)
        rows = make_rows(10, features=4)
        model = make_model(extract_trees(estimator), features=4)

        assert np.array_equal(model.raw_scores(rows), estimator.decision_function(rows))
        assert model.contributions(rows[0]).tolist() == [0.0] * 4


class TestShapley:
    @pytest.mark.parametrize(("features", "leaves", "trees"), [(3, 4, 1), (4, 31, 3), (6, 15, 6), (8, 31, 4)])
    def test_equals_the_sum_over_all_coalitions(self, features: int, leaves: int, trees: int) -> None:
        arrays = extract_trees(fit(make_rows(1500, features=features), trees=trees, leaves=leaves))
        model = make_model(arrays, features=features)
        rows = make_rows(6, features=features, seed=11)

        found = np.array([model.contributions(row) for row in rows])

        expected = np.array([enumerated_shapley(arrays, row) for row in rows])
        assert np.abs(found - expected).max() < 1e-9

    def test_handles_a_feature_that_splits_again_and_again_on_one_path(self) -> None:
        arrays = extract_trees(fit(make_rows(1500, features=3), trees=3, leaves=60, min_samples_leaf=2))
        model = make_model(arrays, features=3)
        rows = make_rows(10, features=3, seed=12)

        found = np.array([model.contributions(row) for row in rows])

        expected = np.array([enumerated_shapley(arrays, row) for row in rows])
        assert np.abs(found - expected).max() < 1e-9

    def test_adds_up_to_the_raw_score_in_a_model_of_real_size(self) -> None:
        arrays = extract_trees(fit(make_rows(8000, features=45), trees=120))
        model = make_model(arrays, features=45)
        rows = make_rows(200, features=45, seed=13)

        sums = np.array([model.base_value + model.contributions(row).sum() for row in rows])

        assert np.abs(sums - model.raw_scores(rows)).max() < 1e-9

    def test_gives_nothing_to_a_feature_no_tree_uses(self) -> None:
        rows = make_rows(2000, features=5)
        rows[:, 4] = 0.0
        model = make_model(extract_trees(fit(rows)), features=5)

        assert model.contributions(rows[0])[4] == 0.0

    def test_explains_from_what_is_expected_without_any_feature(self) -> None:
        arrays = extract_trees(fit(make_rows(1500, features=4), trees=4))

        base_value = make_model(arrays, features=4).base_value

        assert base_value == pytest.approx(worth(arrays, np.zeros(4), frozenset()), abs=1e-12)


class TestSigmoid:
    @pytest.mark.parametrize("probability", [1e-300, 1e-9, 0.3, 0.5, 0.999])
    def test_inverts_the_log_odds(self, probability: float) -> None:
        log_odds = log(probability) - log(1 - probability)

        assert kernels.sigmoid(log_odds) == pytest.approx(probability, rel=1e-12)

    def test_does_not_overflow(self) -> None:
        assert kernels.sigmoid(-1e6) == 0.0
        assert kernels.sigmoid(1e6) == 1.0


class TestWarmUp:
    def test_compiles_what_serving_calls(self) -> None:
        kernels.warm_up()
        compiled = (kernels.raw_score, kernels.probability, kernels.probabilities, kernels.shapley)
        before = [len(kernel.signatures) for kernel in compiled]
        model = make_model(extract_trees(fit(make_rows(500, features=4), trees=2)), features=4)
        rows = make_rows(3, features=4)

        model.predict(rows[0])
        model.predict_many(rows)
        model.contributions(rows[0])

        assert [len(kernel.signatures) for kernel in compiled] == before
