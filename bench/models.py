"""The models the bench serves with, trained by the product's own training and kept between runs."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.settings import AiSettings
from bench.errors import BenchError
from local_stack.child import PROJECT

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


def provide_model(models_dir: Path, *options: str) -> Path:
    """Train a model unless a fitting one is there, and return its folder; raises `BenchError`."""
    command = [
        sys.executable,
        "-m",
        "ai_service.ml.training",
        "--if-missing",
        "--models-dir",
        str(models_dir),
    ]
    finished = subprocess.run([*command, *options], cwd=PROJECT, check=False, capture_output=True, text=True)
    if finished.returncode != 0:
        raise BenchError(f"The model could not be trained:\n{finished.stdout}{finished.stderr}")
    return current_folder(models_dir)


def current_folder(models_dir: Path) -> Path:
    """Return the folder of the model in use."""
    current: dict[str, str] = orjson.loads((models_dir / "current.json").read_bytes())
    return models_dir / current["name"] / current["version"]


def feature_names(folder: Path) -> Sequence[str]:
    """Return the features that a saved model takes."""
    names: Sequence[str] = orjson.loads((folder / "manifest.json").read_bytes())["features"]
    return names
