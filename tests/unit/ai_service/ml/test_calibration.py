from math import inf

import numpy as np
import pytest

from ai_service.ml.calibration import Calibration, ScoreBin, band_confidence, make_bins, sigmoid
from tests.unit.ai_service.ml.models import make_calibration

CUTS = (0.35, 0.65)


def calibration_of(*bins: ScoreBin) -> Calibration:
    return Calibration(1.0, 0.0, bins)


class TestMakeBins:
    def test_counts_every_row_once(self) -> None:
        rng = np.random.default_rng(3)
        raw = rng.normal(size=5000)
        is_fraud = rng.random(5000) < sigmoid(raw - 4)

        bins = make_bins(raw, is_fraud, sigmoid(raw - 4))

        assert sum(found.count for found in bins) == 5000
        assert sum(found.frauds for found in bins) == is_fraud.sum()
        assert bins[0].lower == -inf
        assert 30 <= len(bins) <= 40

    def test_resolves_the_scores_of_frauds_however_rare_they_are(self) -> None:
        rng = np.random.default_rng(3)
        raw = np.concatenate([rng.normal(-4, 1, size=9800), rng.normal(2, 1, size=200)])
        is_fraud = np.arange(10_000) >= 9800

        bins = make_bins(raw, is_fraud, sigmoid(raw))

        assert sum(found.lower > 0 for found in bins) >= 15

    def test_keeps_equal_scores_together(self) -> None:
        raw = np.repeat([0.0, 1.0], 50)

        bins = make_bins(raw, raw > 0, sigmoid(raw))

        assert [(found.lower, found.count, found.frauds) for found in bins] == [(-inf, 50, 0), (1.0, 50, 50)]

    def test_works_without_any_fraud(self) -> None:
        raw = np.linspace(-1, 1, 100)

        bins = make_bins(raw, np.zeros(100, dtype=bool), sigmoid(raw))

        assert sum(found.count for found in bins) == 100


class TestCalibration:
    @pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
    def test_refuses_a_slope_that_would_turn_the_order_round(self, slope: float) -> None:
        with pytest.raises(ValueError, match="slope"):
            Calibration(slope, 0.0, (ScoreBin(-inf, 1, 0, 0.5),))

    @pytest.mark.parametrize(
        "bins",
        [
            (),
            (ScoreBin(0.0, 1, 0, 0.5),),
            (ScoreBin(-inf, 1, 0, 0.5), ScoreBin(2.0, 1, 0, 0.5), ScoreBin(1.0, 1, 0, 0.5)),
            (ScoreBin(-inf, 1, 2, 0.5),),
            (ScoreBin(-inf, 1, -1, 0.5),),
            (ScoreBin(-inf, 1, 0, 1.5),),
        ],
    )
    def test_refuses_bins_that_cannot_be(self, bins: tuple[ScoreBin, ...]) -> None:
        with pytest.raises(ValueError, match=r"bin|probability"):
            calibration_of(*bins)


class TestBandConfidence:
    def test_adds_up_to_one_over_the_bands(self) -> None:
        bands = band_confidence(make_calibration(), CUTS)

        for probability in np.linspace(0, 1, 21).tolist():
            for modifier in (0.0, 12.5, -40.0):
                total = sum(bands.confidence(probability, band, modifier) for band in range(3))
                assert total == pytest.approx(1.0, abs=1e-12)

    def test_is_the_share_of_the_posterior_inside_the_band(self) -> None:
        bands = band_confidence(calibration_of(ScoreBin(-inf, 40, 20, 0.5)), CUTS)
        drawn = np.random.default_rng(4).beta(20 + 0.5 * 4, 20 + 0.5 * 4, size=200_000)

        confidence = bands.confidence(0.5, 1)

        assert confidence == pytest.approx(((drawn >= 0.35) & (drawn < 0.65)).mean(), abs=0.005)

    def test_grows_with_what_was_seen(self) -> None:
        few = band_confidence(calibration_of(ScoreBin(-inf, 10, 5, 0.5)), CUTS)
        many = band_confidence(calibration_of(ScoreBin(-inf, 1000, 500, 0.5)), CUTS)

        assert few.confidence(0.5, 1) < many.confidence(0.5, 1)

    def test_is_low_where_the_rate_seen_contradicts_the_probability(self) -> None:
        bands = band_confidence(calibration_of(ScoreBin(-inf, 200, 10, 0.8)), CUTS)

        assert bands.confidence(0.8, 2) < 0.01

    def test_looks_in_the_bin_of_the_score(self) -> None:
        calibration = calibration_of(ScoreBin(-inf, 100, 0, 0.1), ScoreBin(0.0, 100, 100, 0.9))
        bands = band_confidence(calibration, CUTS)

        assert bands.confidence(0.4999, 0) > 0.99
        assert bands.confidence(0.5001, 0) < 0.01
        assert bands.confidence(0.5001, 2) > 0.99

    def test_moves_the_band_with_the_rules_modifier(self) -> None:
        bands = band_confidence(calibration_of(ScoreBin(-inf, 1000, 300, 0.3)), CUTS)

        assert bands.confidence(0.3, 0) > 0.99
        assert bands.confidence(0.3, 1, modifier=20.0) > 0.99
        assert bands.confidence(0.3, 2, modifier=90.0) == 1.0
        assert bands.confidence(0.3, 0, modifier=-90.0) == 1.0

    def test_survives_a_bin_whose_mean_probability_is_certain(self) -> None:
        bands = band_confidence(calibration_of(ScoreBin(-inf, 5, 0, 0.0), ScoreBin(9.0, 5, 5, 1.0)), CUTS)

        assert bands.confidence(0.0, 0) > 0.9
        assert bands.confidence(1.0, 2) > 0.9

    @pytest.mark.parametrize("band", [-1, 3])
    def test_knows_no_other_bands(self, band: int) -> None:
        with pytest.raises(ValueError, match="band"):
            band_confidence(make_calibration(), CUTS).confidence(0.5, band)

    @pytest.mark.parametrize("cuts", [(0.65, 0.35), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0)])
    def test_refuses_cuts_that_do_not_rise(self, cuts: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="cuts"):
            band_confidence(make_calibration(), cuts)
