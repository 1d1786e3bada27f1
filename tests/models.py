"""A small real model for tests: payments up to 100 are fine, up to 400 doubtful, beyond that fraud."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.ml.calibration import Calibration, make_bins, sigmoid
from ai_service.ml.registry import SCHEMA_VERSION, Manifest, arrays_bytes, make_current, save_model, to_saved
from ai_service.ml.trees import extract_trees
from common.canonical import sha256_hex

FINE, DOUBTFUL, FRAUD = "25.00", "300.00", "900.00"


def save_test_model(
    models_dir: Path,
    *,
    version: str = "1",
    simulated_only: bool = False,
    features: tuple[str, ...] = FEATURE_NAMES,
) -> Path:
    """Train in a moment on `features`, "amount" among them, save and make current; return the model's folder."""
    random = np.random.default_rng(7)
    rows = np.full((4000, len(features)), 0.5)
    amounts = random.uniform(0, 1, size=len(rows)) ** 3 * 1000  # most are small, as in life
    rows[:, features.index("amount")] = amounts
    chance = np.where(amounts > 400, 0.97, np.where(amounts > 100, 0.5, 0.01))
    is_fraud = random.uniform(size=len(rows)) < chance
    estimator = HistGradientBoostingClassifier(
        max_iter=30,
        max_leaf_nodes=4,
        learning_rate=0.2,
        early_stopping=False,
        random_state=7,
        max_features=1.0,
    ).fit(rows, is_fraud)
    raw = estimator.decision_function(rows)
    calibration = Calibration(1.0, 0.0, make_bins(raw, is_fraud, sigmoid(raw)))
    arrays = arrays_bytes(extract_trees(estimator))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="test",
        version=version,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        trained_on="random numbers",
        simulated_only=simulated_only,
        note="for tests",
        seed=7,
        features=features,
        library_versions={},
        metrics={},
        calibration=to_saved(calibration),
        arrays_sha256=sha256_hex(arrays),
        estimator_sha256=sha256_hex(b""),
    )
    folder = save_model(models_dir, manifest, arrays=arrays, estimator=b"")
    make_current(models_dir, folder)
    return folder
