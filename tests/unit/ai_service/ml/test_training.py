import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from ai_service.features.definitions import FEATURE_NAMES
from ai_service.ml.examples import Examples, replay, simulated_rates
from ai_service.ml.registry import ModelRefusedError, load_current, load_model
from ai_service.ml.simulator import simulate
from ai_service.ml.training import (
    SIMULATED_NOTE,
    TrainingError,
    fit_calibration,
    fit_trees,
    load_estimator,
    main,
    train,
)

START = datetime(2026, 3, 2, tzinfo=UTC)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, arguments)


def small_examples() -> Examples:
    simulated = simulate(seed=3, start=START, customers=80, days=10)
    return replay(simulated, rates=simulated_rates(START), advance=lambda: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    models_dir = tmp_path_factory.mktemp("models")
    result = run("--customers", "250", "--days", "12", "--seed", "5", "--models-dir", str(models_dir))
    return models_dir, result


class TestReplay:
    def test_computes_every_feature_of_every_transaction(self) -> None:
        advanced: list[int] = []
        simulated = list(simulate(seed=3, start=START, customers=60, days=6))

        examples = replay(simulated, rates=simulated_rates(START), advance=lambda: advanced.append(1))

        assert examples.rows.shape == (len(simulated), len(FEATURE_NAMES))
        assert len(advanced) == len(simulated)
        assert examples.is_fraud.tolist() == [example.is_fraud for example in simulated]

    def test_knows_what_every_amount_is_worth(self) -> None:
        examples = small_examples()

        assert not np.isnan(examples.rows[:, FEATURE_NAMES.index("amount")]).any()

    def test_remembers_what_came_before(self) -> None:
        examples = small_examples()
        counts = examples.rows[:, FEATURE_NAMES.index("count_by_customer_7d")]

        assert counts[0] == 0
        assert counts[-500:].mean() > 3


class TestTrainingCommand:
    def test_leaves_a_champion_that_serving_accepts(self, trained: tuple[Path, Result]) -> None:
        models_dir, result = trained

        assert result.exit_code == 0, result.output
        model = load_current(models_dir, expected_features=FEATURE_NAMES)
        assert model.simulated_only
        assert model.name == "fraud-simulated"

    def test_serves_what_scikit_learn_predicted(self, trained: tuple[Path, Result]) -> None:
        model = load_current(trained[0])
        estimator = load_estimator(trained[0] / model.name / model.version)
        rows = small_examples().rows

        assert np.array_equal(model.raw_scores(rows), estimator.decision_function(rows))
        sums = [model.base_value + model.contributions(row).sum() for row in rows[:200]]
        assert np.abs(np.array(sums) - model.raw_scores(rows[:200])).max() < 1e-9

    def test_finds_fraud_it_has_not_seen_and_uses_every_band(self, trained: tuple[Path, Result]) -> None:
        model = load_current(trained[0])
        examples = small_examples()

        probabilities = model.predict_many(examples.rows)

        assert probabilities[examples.is_fraud].mean() > 10 * probabilities[~examples.is_fraud].mean()
        bands = np.searchsorted([0.35, 0.65], probabilities, side="right")
        assert set(bands.tolist()) == {0, 1, 2}

    def test_writes_down_what_was_measured_and_that_it_is_simulated(
        self, trained: tuple[Path, Result]
    ) -> None:
        model = load_current(trained[0])
        manifest = json.loads((trained[0] / model.name / model.version / "manifest.json").read_text())

        assert manifest["trained_on"] == "simulated"
        assert manifest["note"] == SIMULATED_NOTE
        assert manifest["seed"] == 5
        assert manifest["features"] == list(FEATURE_NAMES)
        assert 0.8 < manifest["metrics"]["roc_auc"] < 1.0
        assert sum(row["count"] for row in manifest["metrics"]["bands"]) == manifest["metrics"]["rows"]
        assert manifest["library_versions"]["sklearn"]

    def test_prints_the_measure_and_its_limits(self, trained: tuple[Path, Result]) -> None:
        said = " ".join(trained[1].output.split())

        assert "average precision" in said
        assert "simulated transactions only" in said

    def test_does_nothing_when_a_model_fits_already(self, trained: tuple[Path, Result]) -> None:
        before = load_current(trained[0]).version

        result = run("--if-missing", "--models-dir", str(trained[0]))

        assert result.exit_code == 0
        assert "fits" in result.output
        assert load_current(trained[0]).version == before

    def test_will_not_unpickle_an_estimator_somebody_changed(self, trained: tuple[Path, Result]) -> None:
        model = load_current(trained[0])
        folder = trained[0] / model.name / model.version
        path, original = folder / "estimator.joblib", (folder / "estimator.joblib").read_bytes()
        path.write_bytes(original[:-1] + b"x")

        with pytest.raises(ModelRefusedError, match="hash differs"):
            load_estimator(folder)

        path.write_bytes(original)
        assert load_model(folder).version == model.version

    def test_refuses_a_name_that_is_no_folder(self, tmp_path: Path) -> None:
        result = run("--name", "../up", "--models-dir", str(tmp_path))

        assert result.exit_code == 2
        assert not any(tmp_path.iterdir())


class TestTrain:
    def test_gives_the_same_trees_for_the_same_seed(self) -> None:
        examples = small_examples()

        first, second = fit_trees(examples, seed=1), fit_trees(examples, seed=1)

        scores = [fitted.decision_function(examples.rows) for fitted in (first, second)]
        assert np.array_equal(*scores)

    def test_refuses_examples_without_fraud(self) -> None:
        examples = Examples(np.zeros((50, 2)), np.zeros(50, dtype=bool), ("everyday",) * 50)

        with pytest.raises(TrainingError, match="training slice"):
            train(examples, seed=1, advance=lambda: None)

    def test_refuses_examples_whose_latest_part_cannot_be_measured(self) -> None:
        rng = np.random.default_rng(2)
        is_fraud = (rng.random(1000) < 0.2) & (np.arange(1000) < 800)
        rows = np.column_stack([is_fraud + rng.normal(size=1000), rng.normal(size=1000)])

        with pytest.raises(TrainingError, match="one class"):
            train(Examples(rows, is_fraud, ("any",) * 1000), seed=1, advance=lambda: None)


class TestFitCalibration:
    def test_finds_the_line_the_labels_were_drawn_from(self) -> None:
        rng = np.random.default_rng(8)
        raw = rng.normal(-2, 2, size=60_000)
        is_fraud = rng.random(60_000) < 1 / (1 + np.exp(-(0.7 * raw - 0.4)))

        calibration = fit_calibration(raw, is_fraud)

        assert calibration.slope == pytest.approx(0.7, abs=0.03)
        assert calibration.intercept == pytest.approx(-0.4, abs=0.05)
        assert sum(found.count for found in calibration.bins) == 60_000

    def test_refuses_one_class(self) -> None:
        with pytest.raises(TrainingError, match="calibration slice"):
            fit_calibration(np.zeros(10), np.zeros(10, dtype=bool))

    def test_refuses_a_score_that_falls_with_fraud(self) -> None:
        raw = np.linspace(-1, 1, 100)

        with pytest.raises(TrainingError, match="learnt nothing"):
            fit_calibration(raw, raw + np.sin(50 * raw) < 0)
