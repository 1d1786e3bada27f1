"""The compiled core of the model: trees to log-odds, and exact Shapley contributions of one row.

Nodes lie in one array, parents before children, tree after tree. All sums run in the order of the trees, so that
scores equal scikit-learn's bit for bit. Scoring one row keeps the GIL: giving it away costs more than the row.
"""

from math import exp, isnan

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

# columns of `links`, of shape (nodes, 4): what a node splits by and where it leads
FEATURE, LEFT, RIGHT, MISSING_LEFT = range(4)
# columns of `edges`, of shape (nodes, 4): the edge that leads to a node
PARENT, SAME_FEATURE_ABOVE, SPLITS_BY, IS_LEFT = range(4)


@njit(cache=True)
def raw_score(row: Floats, links: Integers, numbers: Floats, roots: Integers, baseline: float) -> float:
    """Return the log-odds of one row, float64 of shape (features,); NaN means missing."""
    total = baseline
    for tree in range(roots.shape[0]):
        node = roots[tree]
        feature = links[node, FEATURE]
        while feature >= 0:
            value = row[feature]
            if value <= numbers[node] or (links[node, MISSING_LEFT] != 0 and isnan(value)):
                node = links[node, LEFT]
            else:
                node = links[node, RIGHT]
            feature = links[node, FEATURE]
        total += numbers[node]
    return total


@njit(cache=True, nogil=True)
def raw_scores(rows: Floats, links: Integers, numbers: Floats, roots: Integers, baseline: float) -> Floats:
    """Return the log-odds of each row, float64 of shape (rows, features)."""
    scores = np.empty(rows.shape[0])
    for index in range(rows.shape[0]):
        scores[index] = raw_score(rows[index], links, numbers, roots, baseline)
    return scores


@njit(cache=True)
def sigmoid(log_odds: float) -> float:
    """Return the probability of `log_odds`, without overflow at either end."""
    if log_odds >= 0:
        return 1.0 / (1.0 + exp(-log_odds))
    odds = exp(log_odds)
    return odds / (1.0 + odds)


@njit(cache=True)
def probability(
    row: Floats,
    links: Integers,
    numbers: Floats,
    roots: Integers,
    baseline: float,
    slope: float,
    intercept: float,
) -> float:
    """Return the calibrated probability of one row."""
    return sigmoid(slope * raw_score(row, links, numbers, roots, baseline) + intercept)


@njit(cache=True, nogil=True)
def probabilities(
    rows: Floats,
    links: Integers,
    numbers: Floats,
    roots: Integers,
    baseline: float,
    slope: float,
    intercept: float,
) -> Floats:
    """Return the calibrated probability of each row, with the bits `probability` gives."""
    found = np.empty(rows.shape[0])
    for index in range(rows.shape[0]):
        found[index] = sigmoid(slope * raw_score(rows[index], links, numbers, roots, baseline) + intercept)
    return found


@njit(cache=True, nogil=True)
def shapley(
    row: Floats,
    links: Integers,
    numbers: Floats,
    edges: Integers,
    shares: Floats,
    points: Floats,
    weights: Floats,
    n_features: int,
) -> Floats:
    """Return exact path-dependent Shapley contributions of one row, log-odds, float64 of shape (features,).

    The game is the one of TreeSHAP (Lundberg et al. 2020): a split by an absent feature is followed both ways, in
    proportion to the training rows that went there. Take a leaf with value v whose path splits by the features D.
    Let o_j be 1 where the row obeys every split by j on the path, else 0, and z_j the share of training rows that
    those splits keep. A coalition S is worth v * prod(o_j, j in S) * prod(z_j, j not in S), and since the Shapley
    weight |S|! (|D|-|S|-1)! / |D|! is the integral of t^|S| (1-t)^(|D|-|S|-1) over 0 < t < 1, the leaf gives i

        v * (o_i - z_i) * integral of prod(t * o_j + (1-t) * z_j, j in D without i) dt.

    The integrand has degree |D|-1, so Gauss-Legendre quadrature with ceil(max|D| / 2) points is exact. `points`
    and `weights` are that rule on (0, 1), float64 of shape (points,). The sum over leaves costs one pass down
    (products of factors) and one pass up (sums over subtrees): O(nodes * points), with no recursion. A leaf counts
    an edge only where no deeper edge of its path has the same feature; a deeper edge therefore takes back what
    the one above it claimed. Every factor is positive, as 0 < t < 1 and z_j > 0, so dividing one out is safe.
    """
    size, order = numbers.shape[0], points.shape[0]
    obeyed = np.ones(size)  # o of the edge's feature, this edge included
    factors = np.ones((size, order))
    sums = np.ones((size, order))  # on the way down: products of a path; on the way up: of all leaves below
    for node in range(size):
        parent, above = edges[node, PARENT], edges[node, SAME_FEATURE_ABOVE]
        if parent >= 0:
            value = row[edges[node, SPLITS_BY]]
            goes_left = value <= numbers[parent] or (links[parent, MISSING_LEFT] != 0 and isnan(value))
            if goes_left != (edges[node, IS_LEFT] != 0):
                obeyed[node] = 0.0
            elif above >= 0:
                obeyed[node] = obeyed[above]
            for index in range(order):
                t = points[index]
                factors[node, index] = t * obeyed[node] + (1.0 - t) * shares[node]
                sums[node, index] = sums[parent, index] * factors[node, index]
                if above >= 0:
                    sums[node, index] /= factors[above, index]
    _keep_leaves(links, numbers, sums)
    contributions = np.zeros(n_features)
    for node in range(size - 1, -1, -1):
        parent, above = edges[node, PARENT], edges[node, SAME_FEATURE_ABOVE]
        if parent >= 0:
            for index in range(order):
                sums[parent, index] += sums[node, index]
            gain = (obeyed[node] - shares[node]) * _integral(sums[node], factors[node], weights)
            if above >= 0:
                gain -= (obeyed[above] - shares[above]) * _integral(sums[node], factors[above], weights)
            contributions[edges[node, SPLITS_BY]] += gain
    return contributions


@njit(cache=True, nogil=True)
def _integral(sums: Floats, factors: Floats, weights: Floats) -> float:
    """Return the integral over (0, 1) of `sums` with one factor divided out."""
    total = 0.0
    for index in range(weights.shape[0]):
        total += weights[index] * sums[index] / factors[index]
    return total


@njit(cache=True, nogil=True)
def _keep_leaves(links: Integers, numbers: Floats, sums: Floats) -> None:
    """Weigh the products of leaves by their values and clear those of inner nodes, which the pass up fills."""
    for node in range(numbers.shape[0]):
        if links[node, FEATURE] < 0:
            sums[node] *= numbers[node]
        else:
            sums[node] = 0.0


def warm_up() -> None:
    """Compile every kernel (or read it from numba's cache), so that no transaction waits for it."""
    links = np.array([[0, 1, 2, 0], [-1, -1, -1, 0], [-1, -1, -1, 0]], dtype=np.int32)
    numbers, roots = np.array([0.0, -1.0, 1.0]), np.zeros(1, dtype=np.int32)
    edges = np.array([[-1, -1, -1, 0], [0, -1, 0, 1], [0, -1, 0, 0]], dtype=np.int32)
    row, half = np.zeros(1), np.array([0.5])
    raw_score(row, links, numbers, roots, 0.0)
    raw_scores(row.reshape(1, 1), links, numbers, roots, 0.0)
    probability(row, links, numbers, roots, 0.0, 1.0, 0.0)
    probabilities(row.reshape(1, 1), links, numbers, roots, 0.0, 1.0, 0.0)
    shapley(row, links, numbers, edges, np.array([1.0, 0.5, 0.5]), half, np.ones(1), 1)
