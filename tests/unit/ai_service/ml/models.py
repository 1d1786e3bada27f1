"""Small trained models for the tests of this folder."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from ai_service.ml.calibration import Calibration, make_bins, sigmoid
from ai_service.ml.predictor import FraudModel
from ai_service.ml.registry import SCHEMA_VERSION, Manifest, arrays_bytes, save_model, to_saved
from ai_service.ml.trees import TreeArrays, extract_trees
from common.canonical import sha256_hex

Floats = NDArray[np.float64]


def make_rows(count: int, *, features: int, seed: int = 5) -> Floats:
    """Return random rows of which some values are missing or repeated."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features))
    rows[:, 0] = np.round(rows[:, 0])
    rows[rng.random(rows.shape) < 0.15] = np.nan
    return rows


def fit(rows: Floats, *, trees: int = 20, leaves: int = 15, **changes: Any) -> HistGradientBoostingClassifier:  # noqa: ANN401
    """Fit a classifier to a target that depends on several features together, and on what is missing."""
    known = np.nan_to_num(rows)
    signal = known[:, 0] * known[:, 1] + known[:, 2] + np.isnan(rows[:, 1])
    target = signal + np.random.default_rng(1).normal(size=len(rows)) > 0.8
    estimator = HistGradientBoostingClassifier(
        max_iter=trees, max_leaf_nodes=leaves, early_stopping=False, random_state=0, **changes
    )
    return estimator.fit(rows, target)


def make_calibration(slope: float = 0.9, intercept: float = -0.2) -> Calibration:
    rng = np.random.default_rng(2)
    raw = rng.normal(size=4000) * 3
    is_fraud = rng.random(4000) < sigmoid(slope * raw + intercept)
    return Calibration(slope, intercept, make_bins(raw, is_fraud, sigmoid(slope * raw + intercept)))


@cache
def small_trees() -> TreeArrays:
    return extract_trees(fit(make_rows(2000, features=4), trees=5))


def make_model(trees: TreeArrays, *, features: int) -> FraudModel:
    return FraudModel(
        name="fraud-test",
        version="v1",
        feature_names=tuple(f"feature_{number}" for number in range(features)),
        simulated_only=True,
        trees=trees,
        calibration=make_calibration(),
    )


def make_manifest(arrays: bytes, **changes: Any) -> Manifest:  # noqa: ANN401
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": "fraud-test",
        "version": "v1",
        "created_at": datetime(2026, 11, 2, tzinfo=UTC),
        "trained_on": "simulated",
        "simulated_only": True,
        "note": "a test",
        "seed": 1,
        "features": tuple(f"feature_{number}" for number in range(4)),
        "library_versions": {},
        "metrics": {},
        "calibration": to_saved(make_calibration()),
        "arrays_sha256": sha256_hex(arrays),
        "estimator_sha256": sha256_hex(b"pickled"),
        **changes,
    }
    return Manifest(**fields)


def save(models_dir: Path, *, arrays: bytes | None = None, **changes: Any) -> Path:  # noqa: ANN401
    content = arrays_bytes(small_trees()) if arrays is None else arrays
    return save_model(models_dir, make_manifest(content, **changes), arrays=content, estimator=b"pickled")
