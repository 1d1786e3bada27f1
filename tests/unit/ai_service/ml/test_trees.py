import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from ai_service.ml.trees import UnsupportedEstimatorError, check_trees, extract_trees, trace_paths
from tests.unit.ai_service.ml.models import fit, make_rows, small_trees


class TestExtractTrees:
    def test_gives_trees_that_pass_every_check(self) -> None:
        trees = extract_trees(fit(make_rows(3000, features=6), trees=40, leaves=31))

        check_trees(trees, n_features=6)

        assert len(trees.roots) == 40
        assert (trees.cover[trees.roots] == 3000).all()

    def test_gives_arrays_nobody_can_change(self) -> None:
        with pytest.raises(ValueError, match="read-only"):
            small_trees().value[0] = 1.0

    def test_refuses_more_than_two_classes(self) -> None:
        rows = make_rows(300, features=3)
        estimator = HistGradientBoostingClassifier(max_iter=2).fit(rows, np.arange(300) % 3)

        with pytest.raises(UnsupportedEstimatorError, match="two classes"):
            extract_trees(estimator)

    def test_refuses_categorical_splits(self) -> None:
        rows = make_rows(600, features=3)
        rows[:, 0] = np.arange(600) % 5
        estimator = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])
        estimator.fit(rows, np.isin(rows[:, 0], [1, 3]))

        with pytest.raises(UnsupportedEstimatorError, match="categorical"):
            extract_trees(estimator)


class TestTracePaths:
    def test_shares_of_the_two_sides_of_a_first_split_add_up_to_one(self) -> None:
        trees = small_trees()

        shares = trace_paths(trees).shares

        roots = trees.roots
        assert np.allclose(shares[trees.left[roots]] + shares[trees.right[roots]], 1.0)

    def test_uses_enough_points_for_the_longest_path(self) -> None:
        paths = trace_paths(extract_trees(fit(make_rows(3000, features=6), trees=10, leaves=31)))

        assert len(paths.points) == 3
        assert paths.weights.sum() == pytest.approx(1.0)
