"""The model: its score against scikit-learn's, and exact Shapley values at the size that design.md speaks of."""

import importlib.util
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from ai_service.ml.calibration import Calibration, ScoreBin, sigmoid
from ai_service.ml.predictor import FraudModel
from ai_service.ml.trees import extract_trees
from bench.figures import Aim, Better, Figure
from bench.parts.timing import per_item_us

TREES, LEAVES, FEATURES, ROWS = 300, 31, 30, 4000
SAME_SCORE = Aim(Better.LOWER, 1e-12)
SAME_SHAPLEY = Aim(Better.LOWER, 1e-9)
ROWS_TO_EXPLAIN = 200

Floats = NDArray[np.float64]


def equality_figure(
    model: FraudModel, estimator: HistGradientBoostingClassifier, rows: Sequence[Floats]
) -> Figure:
    """Return the greatest difference between our scores and scikit-learn's, one row at a time, calibrated alike."""
    raw = estimator.decision_function(np.array(rows))
    theirs = sigmoid(model.calibration.slope * raw + model.calibration.intercept)
    ours = np.array([model.predict(row) for row in rows])
    difference = float(np.abs(ours - theirs).max())
    return Figure(
        "model_vs_sklearn", difference, "greatest difference", aim=SAME_SCORE, note=f"{len(rows):,} rows"
    )


def sklearn_figure(estimator: HistGradientBoostingClassifier, rows: Sequence[Floats]) -> Figure:
    """Return what one row costs scikit-learn itself."""
    given = [row.reshape(1, -1) for row in rows[:ROWS_TO_EXPLAIN]]
    with threadpool_limits(1):  # its own threads make a single row slower
        us, _ = per_item_us(estimator.predict_proba, given, repeats=2)
    return Figure("sklearn_one_row", us, "us", note="predict_proba on one thread, another row each time")


def shapley_figures(
    name: str, model: FraudModel, rows: Sequence[Floats], *, repeats: int
) -> Iterator[Figure]:
    """Yield the time of one row's Shapley values."""
    us, _ = per_item_us(model.contributions, rows[:ROWS_TO_EXPLAIN], repeats=repeats)
    aim = Aim(Better.LOWER, 1000, 250) if name == "reference" else None
    note = f"{len(model.trees.roots)} trees, at most {_most_leaves(model)} leaves"
    yield Figure(f"shapley_{name}", us, "us", aim=aim, note=note)


def reference_figures(*, repeats: int) -> Iterator[Figure]:
    """Yield the same at the reference size, and how far the values are from shap's where shap is installed."""
    random = np.random.default_rng(11)
    rows = random.normal(size=(ROWS, FEATURES))
    score = rows[:, :8].sum(axis=1) + 2 * rows[:, 1] * rows[:, 2] + random.normal(size=ROWS)
    estimator = HistGradientBoostingClassifier(
        max_iter=TREES, max_leaf_nodes=LEAVES, min_samples_leaf=5, early_stopping=False, random_state=11
    ).fit(rows, score > 0)
    names = tuple(f"f{number}" for number in range(FEATURES))
    bins = (ScoreBin(-inf, 2, 1, 0.5),)
    model = FraudModel("reference", "1", names, False, extract_trees(estimator), Calibration(1.0, 0.0, bins))
    yield from shapley_figures("reference", model, list(rows), repeats=repeats)
    found = np.array([model.contributions(row) for row in rows[:ROWS_TO_EXPLAIN]])
    raw = model.raw_scores(rows[:ROWS_TO_EXPLAIN])
    rest = float(np.abs(found.sum(axis=1) + model.base_value - raw).max())
    note = "greatest difference between the sum of a row's values and its score"
    yield Figure("shapley_adds_up", rest, "log-odds", aim=SAME_SHAPLEY, note=note)
    if importlib.util.find_spec("shap") is not None:
        yield _against_shap(estimator, rows[:ROWS_TO_EXPLAIN], found)


def _against_shap(estimator: HistGradientBoostingClassifier, rows: Floats, found: Floats) -> Figure:
    shap = importlib.import_module("shap")
    theirs = shap.TreeExplainer(estimator).shap_values(rows)
    difference = float(np.abs(found - theirs).max())
    return Figure("shapley_vs_shap", difference, "greatest difference", aim=SAME_SHAPLEY)


def _most_leaves(model: FraudModel) -> int:
    roots = [*model.trees.roots, len(model.trees.feature)]
    return int(max((end - begin + 1) // 2 for begin, end in pairwise(roots)))
