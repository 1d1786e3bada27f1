"""The models the bench serves with, trained by the product's own training and kept between runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.ml.examples import replay, simulated_rates
from ai_service.ml.registry import ModelRefusedError, load_current
from ai_service.ml.simulator import simulate
from ai_service.ml.training import SIMULATION_START, save, train
from ai_service.settings import AiSettings
from bench.errors import BenchError
from common.clock import utc_now

SEED, CUSTOMERS, DAYS = 7, 1500, 30
SHIFT = 4.0
"""Subtracted from the log-odds: the share of flagged payments is the bench's choice, so the model hardly flags any."""
LEAN_FEATURES = Path(__file__).with_name("lean_features.txt")
TAKES_OTHER_MODELS = "rules_file" in AiSettings.model_fields
"""Whether ai_service computes what its model names, and reads its rules from a file."""


def lean_features() -> tuple[str, ...]:
    """Return the fixed feature list of LEAN, in the order of the catalogue; raises `BenchError`."""
    lines = LEAN_FEATURES.read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    if unknown := wanted.difference(FEATURE_NAMES):
        raise BenchError(f"{LEAN_FEATURES.name} names features that do not exist: {sorted(unknown)}")
    return tuple(name for name in FEATURE_NAMES if name in wanted)


def provide_model(models_dir: Path, features: Sequence[str]) -> Path:
    """Train a model on `features` unless a fitting one is there, and return its folder; raises `TrainingError`."""
    with suppress(ModelRefusedError):
        load_current(models_dir, expected_features=features)
        return current_folder(models_dir)
    payments = simulate(seed=SEED, customers=CUSTOMERS, days=DAYS, start=SIMULATION_START)
    examples = replay(payments, rates=simulated_rates(SIMULATION_START), advance=_nothing)
    columns = [FEATURE_NAMES.index(name) for name in features]
    chosen = replace(examples, rows=np.ascontiguousarray(examples.rows[:, columns]))
    trained = train(chosen, seed=SEED, advance=_nothing)
    rarely = replace(trained.calibration, intercept=trained.calibration.intercept - SHIFT)
    trained = replace(trained, calibration=rarely)
    return save(models_dir, trained, name="bench", seed=SEED, now=utc_now(), features=features)


def current_folder(models_dir: Path) -> Path:
    """Return the folder of the model in use."""
    current: dict[str, str] = orjson.loads((models_dir / "current.json").read_bytes())
    return models_dir / current["name"] / current["version"]


def feature_names(folder: Path) -> Sequence[str]:
    """Return the features that a saved model takes."""
    names: Sequence[str] = orjson.loads((folder / "manifest.json").read_bytes())["features"]
    return names


def _nothing() -> None:
    """Show no progress: training takes seconds."""
