"""Trains the fraud model: `python -m ai_service.ml.training --help`.

Transactions are replayed through the velocity store and the features that serve, in the order of their event times.
Earlier ones train the trees, later ones calibrate them, the latest ones measure them.
"""

import io
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import joblib
import numba
import numpy as np
import scipy
import sklearn
import typer
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.ml.calibration import Calibration, make_bins, sigmoid
from ai_service.ml.evaluation import Evaluation, OneClassError, evaluate
from ai_service.ml.examples import Examples, replay, simulated_rates
from ai_service.ml.registry import (
    SCHEMA_VERSION,
    Manifest,
    ModelRefusedError,
    Slug,
    arrays_bytes,
    load_current,
    load_model,
    make_current,
    read_estimator,
    save_model,
    to_saved,
)
from ai_service.ml.simulator import simulate
from ai_service.ml.trees import extract_trees
from common.canonical import sha256_hex
from common.clock import utc_now

DEFAULT_CUTS = (0.35, 0.65)
TRAIN_UNTIL, CALIBRATE_UNTIL = 0.6, 0.8  # shares of the transactions, in the order of time
SIMULATION_START = datetime(2026, 1, 5, tzinfo=UTC)  # a fixed Monday, so that a seed means one model
SIMULATED_NOTE = (
    "Trained and measured on simulated transactions only, in which fraud is far more frequent than in life: these "
    "figures show that the path works, not how well real fraud would be found."
)
_STEPS = 3

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


class TrainingError(Exception):
    """The data does not make a model that could serve; the message says why."""


@dataclass(frozen=True)
class TrainedModel:
    """A model that is not saved yet."""

    estimator: HistGradientBoostingClassifier
    calibration: Calibration
    evaluation: Evaluation


def fit_trees(examples: Examples, *, seed: int) -> HistGradientBoostingClassifier:
    """Fit the trees; the same examples and seed give the same bits."""
    estimator = HistGradientBoostingClassifier(
        learning_rate=0.07,
        max_iter=120,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    return estimator.fit(examples.rows, examples.is_fraud)


def fit_calibration(raw_scores: Floats, is_fraud: Booleans) -> Calibration:
    """Fit sigmoid(slope * raw + intercept) by logistic regression; raises `TrainingError`."""
    if is_fraud.all() or not is_fraud.any():
        raise TrainingError("The calibration slice holds only one class: simulate more customers or days.")
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(raw_scores.reshape(-1, 1), is_fraud)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:
        raise TrainingError(
            "The score does not rise with fraud on later transactions: the model learnt nothing."
        )
    probabilities = sigmoid(slope * raw_scores + intercept)
    return Calibration(slope, intercept, make_bins(raw_scores, is_fraud, probabilities))


def train(examples: Examples, *, seed: int, advance: Callable[[], object]) -> TrainedModel:
    """Fit on the earlier examples, calibrate on later ones, measure on the latest; raises `TrainingError`."""
    earlier = examples.between(0, TRAIN_UNTIL)
    if earlier.is_fraud.all() or not earlier.is_fraud.any():
        raise TrainingError("The training slice holds only one class: simulate more customers or days.")
    estimator = fit_trees(earlier, seed=seed)
    advance()
    later = examples.between(TRAIN_UNTIL, CALIBRATE_UNTIL)
    calibration = fit_calibration(estimator.decision_function(later.rows), later.is_fraud)
    advance()
    latest = examples.between(CALIBRATE_UNTIL, 1)
    raw_scores = estimator.decision_function(latest.rows)
    probabilities = sigmoid(calibration.slope * raw_scores + calibration.intercept)
    try:
        evaluation = evaluate(probabilities, latest.is_fraud, cuts=DEFAULT_CUTS, scenarios=latest.scenarios)
    except OneClassError as error:
        raise TrainingError(f"{error} Simulate more customers or days.") from error
    return TrainedModel(estimator, calibration, evaluation)


def save(
    models_dir: Path,
    trained: TrainedModel,
    *,
    name: str,
    seed: int,
    now: datetime,
    features: Sequence[str] = FEATURE_NAMES,
) -> Path:
    """Save the model, which was trained on `features`, as data; make it the champion, and return its folder."""
    arrays = arrays_bytes(extract_trees(trained.estimator))
    pickled = io.BytesIO()
    joblib.dump(trained.estimator, pickled)
    manifest = Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "version": f"{now:%Y%m%dt%H%M%Sz}-{sha256_hex(arrays)[:8]}",
            "created_at": now,
            "trained_on": "simulated",
            "simulated_only": True,
            "note": SIMULATED_NOTE,
            "seed": seed,
            "features": tuple(features),
            "library_versions": library_versions(),
            "metrics": trained.evaluation.as_dict(),
            "calibration": to_saved(trained.calibration),
            "arrays_sha256": sha256_hex(arrays),
            "estimator_sha256": sha256_hex(pickled.getvalue()),
        }
    )
    folder = save_model(models_dir, manifest, arrays=arrays, estimator=pickled.getvalue())
    load_model(folder, expected_features=features)
    make_current(models_dir, folder)
    return folder


def load_estimator(folder: Path) -> HistGradientBoostingClassifier:
    """Unpickle a saved estimator whose hash is the manifest's, for bench and training; raises `ModelRefusedError`."""
    return joblib.load(io.BytesIO(read_estimator(folder)))


def library_versions() -> dict[str, str]:
    """Return what a model was trained with."""
    libraries = (joblib, numba, np, scipy, sklearn)
    return {"python": platform.python_version(), **{found.__name__: found.__version__ for found in libraries}}


def _valid_name(name: str) -> str:
    try:
        return TypeAdapter(Slug).validate_python(name)
    except ValidationError:
        raise typer.BadParameter("lower-case letters, digits, - and _, at most 64") from None


def main(
    *,
    seed: Annotated[int, typer.Option(help="everything follows from it")] = 7,
    customers: Annotated[int, typer.Option(min=50, help="how many customers are simulated")] = 1500,
    days: Annotated[int, typer.Option(min=5, help="for how many days")] = 30,
    models_dir: Annotated[Path, typer.Option(help="where models are saved")] = Path("var/models"),
    name: Annotated[str, typer.Option(help="the model's name", callback=_valid_name)] = "fraud-simulated",
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="do nothing when a model fits already")
    ] = False,
) -> None:
    """Train the fraud model on simulated transactions and make it the champion."""
    console = Console()
    if if_missing and _fits(models_dir):
        console.print(f"{models_dir} holds a model that fits.")
        return
    try:
        with _progress(console) as progress:
            examples = _simulate_and_replay(progress, seed=seed, customers=customers, days=days)
            fitting = progress.add_task("fit, calibrate, save", total=_STEPS)
            trained = train(examples, seed=seed, advance=lambda: progress.advance(fitting))
            folder = save(models_dir, trained, name=name, seed=seed, now=utc_now())
            progress.advance(fitting)
    except TrainingError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from None
    _print(console, trained.evaluation, folder)


def _fits(models_dir: Path) -> bool:
    try:
        load_current(models_dir, expected_features=FEATURE_NAMES)
    except ModelRefusedError:
        return False
    return True


def _simulate_and_replay(progress: Progress, *, seed: int, customers: int, days: int) -> Examples:
    simulating = progress.add_task("simulate", total=None)
    simulated = []
    for transaction in simulate(seed=seed, customers=customers, days=days, start=SIMULATION_START):
        simulated.append(transaction)
        progress.advance(simulating)
    progress.update(simulating, total=len(simulated))
    computing = progress.add_task("compute features", total=len(simulated))
    return replay(
        simulated, rates=simulated_rates(SIMULATION_START), advance=lambda: progress.advance(computing)
    )


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _print(console: Console, evaluation: Evaluation, folder: Path) -> None:
    table = Table("measured on the latest fifth", "", title=str(folder), title_justify="left")
    table.add_row("transactions, of them fraud", f"{evaluation.rows:,}, {evaluation.frauds:,}")
    table.add_row("ROC AUC", f"{evaluation.roc_auc:.4f}")
    table.add_row("average precision", f"{evaluation.average_precision:.4f}")
    table.add_row("recall at 1 % false positives", f"{evaluation.recall_at_1_percent_fpr:.1%}")
    table.add_row("Brier score", f"{evaluation.brier:.5f}")
    table.add_row("calibration error", f"{evaluation.calibration_error:.5f}")
    for row in evaluation.bands:
        rate = "-" if row.fraud_rate is None else f"{row.fraud_rate:.1%}"
        table.add_row(
            f"probability {row.lower:.2f}-{row.upper:.2f}", f"{row.count:,} transactions, {rate} fraud"
        )
    for scenario, recall in evaluation.recall_by_scenario.items():
        table.add_row(f"{scenario} at {DEFAULT_CUTS[0]:.2f} or more", f"{recall:.1%}")
    console.print(table)
    console.print(SIMULATED_NOTE)


if __name__ == "__main__":
    typer.run(main)
