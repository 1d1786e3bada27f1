"""Boosted trees as plain arrays: taken from a trained estimator, checked, and packed for the kernels. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # scikit-learn trains; nothing that serves imports it
    from sklearn.ensemble import HistGradientBoostingClassifier

LEAF = -1
DTYPES: dict[str, type[np.generic]] = {
    "feature": np.int32,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "missing_left": np.bool_,
    "value": np.float64,
    "cover": np.float64,
    "roots": np.int32,
    "baseline": np.float64,
}


class InvalidTreesError(Exception):
    """The arrays are not trees that can be walked safely."""


class UnsupportedEstimatorError(Exception):
    """The estimator has something the arrays cannot say."""


@dataclass(frozen=True, eq=False)
class TreeArrays:
    """All trees, one after the other, parents before children; child numbers count from the first tree's root.

    Of shape (nodes,): `feature` (-1 in a leaf), `threshold` (a value <= it goes left), `left` and `right` (-1 in a
    leaf), `missing_left` (where NaN goes), `value` (log-odds a leaf adds), `cover` (training rows that came here).
    `roots` has shape (trees,), `baseline` shape (1,): the log-odds before any tree.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    cover: NDArray[np.float64]
    roots: NDArray[np.int32]
    baseline: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in DTYPES:
            getattr(self, name).flags.writeable = False

    def as_dict(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def renumbered(self, places: Sequence[int]) -> "TreeArrays":
        """Return the same trees for rows in which feature i stands at `places[i]`."""
        moved = np.where(self.is_leaf, LEAF, np.array([*places, LEAF], dtype=np.int32)[self.feature])
        return replace(self, feature=moved.astype(np.int32))

    @cached_property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Say of each node whether it is a leaf."""
        leaf: NDArray[np.bool_] = self.feature == LEAF
        return leaf


@dataclass(frozen=True, eq=False)
class PackedTrees:
    """The trees as the kernels walk them: `links` (nodes, 4) as kernels.py names its columns, `numbers` (nodes,).

    `numbers` is the threshold of a split and the value of a leaf. These arrays stay writable, as numba recognises
    the types of such arrays ten times faster; nobody but the kernels gets them.
    """

    links: NDArray[np.int32]
    numbers: NDArray[np.float64]
    roots: NDArray[np.int32]
    baseline: float


@dataclass(frozen=True, eq=False)
class Paths:
    """What explanations need of the trees beside the nodes; see `kernels.shapley`.

    `edges` (nodes, 4) as kernels.py names its columns; `shares` (nodes,): the share of training rows that the
    splits by an edge's feature keep, down to it; `points` and `weights`: a quadrature rule on (0, 1);
    `base_value`: the log-odds expected when no feature is known.
    """

    edges: NDArray[np.int32]
    shares: NDArray[np.float64]
    points: NDArray[np.float64]
    weights: NDArray[np.float64]
    base_value: float


def extract_trees(estimator: "HistGradientBoostingClassifier") -> TreeArrays:
    """Return the trees of a fitted binary classifier; raises `UnsupportedEstimatorError`."""
    # scikit-learn has no public way to its trees
    per_round = estimator._predictors
    if any(len(trees) != 1 for trees in per_round):
        raise UnsupportedEstimatorError("only two classes are supported")
    trees = [trees[0].nodes for trees in per_round]
    sizes = np.array([len(nodes) for nodes in trees])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nodes = np.concatenate(trees)
    if nodes["is_categorical"].any():
        raise UnsupportedEstimatorError("categorical splits are not supported")
    leaf, offset = nodes["is_leaf"].astype(bool), np.repeat(roots, sizes)
    return TreeArrays(
        feature=np.where(leaf, LEAF, nodes["feature_idx"]).astype(np.int32),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, LEAF, nodes["left"] + offset).astype(np.int32),
        right=np.where(leaf, LEAF, nodes["right"] + offset).astype(np.int32),
        missing_left=~leaf & nodes["missing_go_to_left"].astype(bool),
        value=np.where(leaf, nodes["value"], 0.0),
        cover=nodes["count"].astype(np.float64),
        roots=roots.astype(np.int32),
        baseline=estimator._baseline_prediction.reshape(1).astype(np.float64),
    )


def check_trees(trees: TreeArrays, *, n_features: int) -> None:
    """Raise `InvalidTreesError` unless every walk stays inside the arrays, ends, and adds finite numbers."""
    _check_shapes(trees)
    _check_numbers(trees)
    _check_structure(trees, n_features)


def _check_shapes(trees: TreeArrays) -> None:
    size = trees.feature.shape
    for name, dtype in DTYPES.items():
        array = getattr(trees, name)
        if array.dtype != np.dtype(dtype):
            raise InvalidTreesError(f"{name} has the wrong type")
        if array.ndim != 1 or (name not in {"roots", "baseline"} and array.shape != size):
            raise InvalidTreesError(f"{name} has the wrong shape")
    if trees.baseline.shape != (1,) or not len(trees.roots):
        raise InvalidTreesError("there is no tree or not one baseline")


def _check_numbers(trees: TreeArrays) -> None:
    for name in ("value", "cover", "baseline"):
        if not np.isfinite(getattr(trees, name)).all():
            raise InvalidTreesError(f"{name} has a value that is not finite")
    # +inf is a split of "missing" from "not missing"
    if np.isnan(trees.threshold).any() or np.isneginf(trees.threshold).any():
        raise InvalidTreesError("threshold has a value that is not finite")
    if (trees.cover <= 0).any():
        raise InvalidTreesError("cover has a value that is not positive")


def _check_structure(trees: TreeArrays, n_features: int) -> None:
    leaf, inner = trees.is_leaf, np.flatnonzero(~trees.is_leaf)
    if (trees.feature < LEAF).any() or (trees.feature >= n_features).any():
        raise InvalidTreesError("a split uses a feature that does not exist")
    if (trees.left[leaf] != LEAF).any() or (trees.right[leaf] != LEAF).any():
        raise InvalidTreesError("a leaf has children")
    size, roots = len(trees.feature), trees.roots
    if roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= size:
        raise InvalidTreesError("the roots do not begin trees that follow one another")
    end = np.repeat(np.append(roots[1:], size), np.diff(np.append(roots, size)))
    children = np.concatenate([trees.left[inner], trees.right[inner]])
    parents = np.concatenate([inner, inner])
    if (children <= parents).any() or (children >= end[parents]).any():
        raise InvalidTreesError("a child lies outside its tree or before its parent")
    expected = np.ones(size, dtype=np.int64)
    expected[roots] = 0
    if (np.bincount(children, minlength=size) != expected).any():
        raise InvalidTreesError("a node has no parent or two")
    if (trees.cover[trees.left[inner]] + trees.cover[trees.right[inner]] != trees.cover[inner]).any():
        raise InvalidTreesError("cover does not add up")


def pack_trees(trees: TreeArrays) -> PackedTrees:
    """Return `trees`, which must have passed `check_trees`, as the kernels walk them."""
    links = np.stack([trees.feature, trees.left, trees.right, trees.missing_left], axis=1).astype(np.int32)
    numbers = np.where(trees.is_leaf, trees.value, trees.threshold)
    return PackedTrees(links, numbers, trees.roots.copy(), float(trees.baseline[0]))


def trace_paths(trees: TreeArrays) -> Paths:
    """Return what explanations need of `trees`, which must have passed `check_trees`."""
    size = len(trees.feature)
    edges = np.full((size, 4), -1, dtype=np.int32)
    shares, reached = np.ones(size), np.ones(size)  # reached: the share of training rows that come to a node
    last_edge: list[dict[int, int]] = [{} for _ in range(size)]  # feature -> deepest edge on the path by it
    for node in np.flatnonzero(~trees.is_leaf).tolist():
        feature = int(trees.feature[node])
        above = last_edge[node].get(feature, -1)
        for child in (int(trees.left[node]), int(trees.right[node])):
            share = trees.cover[child] / trees.cover[node]
            edges[child] = (node, above, feature, child == trees.left[node])
            shares[child] = share if above < 0 else shares[above] * share
            reached[child] = reached[node] * share
            last_edge[child] = {**last_edge[node], feature: child}
    base_value = float(trees.baseline[0] + (reached * trees.value)[trees.is_leaf].sum())
    most_features = max(1, *(len(found) for found in last_edge))
    points, weights = np.polynomial.legendre.leggauss((most_features + 1) // 2)
    return Paths(edges, shares, (points + 1) / 2, weights / 2, base_value)
