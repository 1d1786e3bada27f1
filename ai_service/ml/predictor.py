"""The model that serves: features to a calibrated probability, exact contributions, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ai_service.ml import kernels
from ai_service.ml.calibration import BandConfidence, Calibration, band_confidence
from ai_service.ml.trees import PackedTrees, Paths, TreeArrays, pack_trees, trace_paths
from common.contracts.decisions import ModelRef

MAX_REMEMBERED_CUTS = 1000


class WrongFeaturesError(Exception):
    """The vector has not the features this model was trained on."""


@dataclass(frozen=True, eq=False)
class FraudModel:
    """A trained model, checked when it was loaded. Vectors are float64 of shape (features,), NaN = unknown."""

    name: str
    version: str
    feature_names: tuple[str, ...]
    simulated_only: bool
    trees: TreeArrays
    calibration: Calibration
    _packed: PackedTrees = field(init=False, repr=False)
    _paths: Paths = field(init=False, repr=False)
    _shape: tuple[int, ...] = field(init=False, repr=False)
    _bands: dict[tuple[float, ...], BandConfidence] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        derived = {
            "_packed": pack_trees(self.trees),
            "_paths": trace_paths(self.trees),
            "_shape": (len(self.feature_names),),
            "_bands": {},
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def over(self, names: Sequence[str]) -> "FraudModel":
        """Return this model for vectors in the order of `names`, which may hold more than it was trained on.

        It gives the same bits; what it was not trained on contributes nothing. Raises `WrongFeaturesError`.
        """
        if missing := set(self.feature_names).difference(names):
            raise WrongFeaturesError(f"the model also takes {sorted(missing)}")
        places = [list(names).index(name) for name in self.feature_names]
        return replace(self, feature_names=tuple(names), trees=self.trees.renumbered(places))

    @cached_property
    def ref(self) -> ModelRef:
        """Return the name and version that decisions carry."""
        return ModelRef(name=self.name, version=self.version)

    @property
    def base_value(self) -> float:
        """Return the log-odds the model expects when it knows no feature; contributions add up from here."""
        return self._paths.base_value

    def predict(self, features: NDArray[np.float64]) -> float:
        """Return the calibrated probability of fraud; raises `WrongFeaturesError`."""
        if features.shape != self._shape:
            raise WrongFeaturesError(f"the model takes {len(self.feature_names)} features")
        trees, calibration = self._packed, self.calibration
        found: float = kernels.probability(
            features,
            trees.links,
            trees.numbers,
            trees.roots,
            trees.baseline,
            calibration.slope,
            calibration.intercept,
        )
        return found

    def predict_many(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each row, float64 of shape (rows, features), with the bits `predict` gives."""
        trees, calibration = self._packed, self.calibration
        found: NDArray[np.float64] = kernels.probabilities(
            self._checked(rows),
            trees.links,
            trees.numbers,
            trees.roots,
            trees.baseline,
            calibration.slope,
            calibration.intercept,
        )
        return found

    def raw_scores(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of each row before calibration."""
        trees = self._packed
        found: NDArray[np.float64] = kernels.raw_scores(
            self._checked(rows), trees.links, trees.numbers, trees.roots, trees.baseline
        )
        return found

    def contributions(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each feature adds to `base_value`, in log-odds before calibration: exact Shapley values.

        Raises `WrongFeaturesError`.
        """
        row = self._checked(features.reshape(1, -1))[0]
        trees, paths = self._packed, self._paths
        found: NDArray[np.float64] = kernels.shapley(
            row, trees.links, trees.numbers, paths.edges, paths.shares, paths.points, paths.weights, len(row)
        )
        return found

    def bands(self, cuts: tuple[float, ...]) -> BandConfidence:
        """Return how sure the calibration makes us of each band between `cuts` on the probability."""
        found = self._bands.get(cuts)
        if found is None:
            found = band_confidence(self.calibration, cuts)
            if len(self._bands) < MAX_REMEMBERED_CUTS:
                self._bands[cuts] = found
        return found

    def _checked(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `rows` laid out as the kernels were compiled for."""
        if rows.ndim != 2 or rows.shape[1:] != self._shape:
            raise WrongFeaturesError(f"the model takes {len(self.feature_names)} features")
        return np.require(rows, dtype=np.float64, requirements=["C", "W"])
