import numpy as np
import pytest

from ai_service.ml.predictor import WrongFeaturesError
from common.contracts.decisions import ModelRef
from tests.unit.ai_service.ml.models import make_model, make_rows, small_trees


class TestFraudModel:
    def test_predicts_calibrated_probabilities(self) -> None:
        model = make_model(small_trees(), features=4)
        rows = make_rows(50, features=4)
        log_odds = model.calibration.slope * model.raw_scores(rows) + model.calibration.intercept

        probabilities = [model.predict(row) for row in rows]

        assert np.allclose(probabilities, 1 / (1 + np.exp(-log_odds)), rtol=1e-12)

    def test_gives_the_same_bits_one_by_one_and_together(self) -> None:
        model = make_model(small_trees(), features=4)
        rows = make_rows(500, features=4)

        assert [model.predict(row) for row in rows] == model.predict_many(rows).tolist()

    def test_takes_rows_however_they_lie_in_memory(self) -> None:
        model = make_model(small_trees(), features=4)
        rows = make_rows(20, features=4)
        read_only = np.frombuffer(rows[0].tobytes())

        assert model.predict_many(np.asfortranarray(rows)).tolist() == model.predict_many(rows).tolist()
        assert model.contributions(read_only).tolist() == model.contributions(rows[0]).tolist()

    @pytest.mark.parametrize("shape", [(3,), (5,), (1, 4), ()])
    def test_refuses_a_vector_of_another_shape(self, shape: tuple[int, ...]) -> None:
        model = make_model(small_trees(), features=4)

        with pytest.raises(WrongFeaturesError):
            model.predict(np.zeros(shape))

    def test_refuses_to_explain_a_vector_of_another_length(self) -> None:
        model = make_model(small_trees(), features=4)

        with pytest.raises(WrongFeaturesError):
            model.contributions(np.zeros(5))

    def test_gives_the_same_bits_for_vectors_that_hold_more(self) -> None:
        model = make_model(small_trees(), features=4)
        names = ("other_0", "feature_2", "feature_0", "other_1", "feature_1", "feature_3")
        wide = model.over(names)

        for row in make_rows(200, features=4):
            given = dict(zip(model.feature_names, row, strict=True), other_0=7.0, other_1=np.nan)
            vector = np.array([given[name] for name in names])
            contributions = dict(zip(names, wide.contributions(vector).tolist(), strict=True))

            assert wide.predict(vector) == model.predict(row)
            assert contributions.pop("other_0") == contributions.pop("other_1") == 0.0
            assert [contributions[name] for name in model.feature_names] == model.contributions(row).tolist()

    def test_needs_everything_it_was_trained_on(self) -> None:
        model = make_model(small_trees(), features=4)

        with pytest.raises(WrongFeaturesError, match="feature_3"):
            model.over(("feature_0", "feature_1", "feature_2"))

    def test_names_itself_for_decisions(self) -> None:
        assert make_model(small_trees(), features=4).ref == ModelRef(name="fraud-test", version="v1")

    def test_keeps_the_confidence_tables_of_each_policy(self) -> None:
        model = make_model(small_trees(), features=4)

        assert model.bands((0.35, 0.65)) is model.bands((0.35, 0.65))
        assert model.bands((0.35, 0.65)) is not model.bands((0.2, 0.65))
