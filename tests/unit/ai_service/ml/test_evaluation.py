import numpy as np
import pytest

from ai_service.ml.evaluation import (
    OneClassError,
    calibration_table,
    evaluate,
    expected_calibration_error,
    recall_at_fpr,
)

CUTS = (0.35, 0.65)


class TestRecallAtFpr:
    def test_finds_what_lies_above_the_strictest_threshold_allowed(self) -> None:
        probabilities = np.concatenate([np.linspace(0, 0.89, 99), [0.95], [0.99, 0.93, 0.9, 0.1]])
        is_fraud = np.arange(104) >= 100

        assert recall_at_fpr(probabilities, is_fraud, fpr=0.0) == 0.25
        assert recall_at_fpr(probabilities, is_fraud, fpr=0.01) == 0.75
        assert recall_at_fpr(probabilities, is_fraud, fpr=1.0) == 1.0


class TestCalibrationTable:
    def test_puts_an_edge_into_the_upper_row_and_one_into_the_last(self) -> None:
        probabilities = np.array([0.0, 0.34, 0.35, 0.65, 1.0])
        is_fraud = np.array([False, False, True, True, True])

        low, medium, high = calibration_table(probabilities, is_fraud, edges=[0.0, *CUTS, 1.0])

        assert (low.count, medium.count, high.count) == (2, 1, 2)
        assert (low.fraud_rate, medium.fraud_rate, high.fraud_rate) == (0.0, 1.0, 1.0)
        assert low.mean_probability == pytest.approx(0.17)

    def test_says_nothing_of_an_interval_without_rows(self) -> None:
        (_, empty) = calibration_table(np.array([0.1]), np.array([True]), edges=[0.0, 0.5, 1.0])

        assert (empty.count, empty.mean_probability, empty.fraud_rate) == (0, None, None)


class TestExpectedCalibrationError:
    def test_weighs_the_distance_by_rows(self) -> None:
        probabilities = np.array([0.1, 0.1, 0.1, 0.9])
        is_fraud = np.array([False, False, False, False])

        table = calibration_table(probabilities, is_fraud, edges=[0.0, 0.5, 1.0])

        assert expected_calibration_error(table) == pytest.approx(0.75 * 0.1 + 0.25 * 0.9)


class TestEvaluate:
    def test_is_perfect_for_the_truth(self) -> None:
        is_fraud = np.arange(100) >= 90

        found = evaluate(is_fraud.astype(float), is_fraud, cuts=CUTS)

        assert (found.roc_auc, found.average_precision, found.recall_at_1_percent_fpr) == (1.0, 1.0, 1.0)
        assert (found.brier, found.calibration_error) == (0.0, 0.0)
        assert (found.rows, found.frauds) == (100, 10)

    def test_is_a_coin_for_a_constant(self) -> None:
        is_fraud = np.arange(100) >= 90

        found = evaluate(np.full(100, 0.1), is_fraud, cuts=CUTS)

        assert found.roc_auc == 0.5
        assert found.recall_at_1_percent_fpr == 0.0
        assert found.brier == pytest.approx(0.09)
        assert found.calibration_error == pytest.approx(0.0)

    def test_counts_the_fraud_found_of_each_story(self) -> None:
        is_fraud = np.array([False, True, True, True])
        probabilities = np.array([0.9, 0.4, 0.1, 0.35])

        found = evaluate(probabilities, is_fraud, cuts=CUTS, scenarios=["everyday", "mule", "mule", "card"])

        assert found.recall_by_scenario == {"card": 1.0, "mule": 0.5}

    @pytest.mark.parametrize("is_fraud", [np.zeros(5, dtype=bool), np.ones(5, dtype=bool)])
    def test_cannot_measure_one_class(self, is_fraud: np.ndarray) -> None:
        with pytest.raises(OneClassError):
            evaluate(np.full(5, 0.5), is_fraud, cuts=CUTS)
