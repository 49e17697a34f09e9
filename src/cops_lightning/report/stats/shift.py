"""How far two sets of features lie apart, and whether performance falls with the distance.

Features are compared by direction, as the method compares them: every row is scaled to unit length first.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import cdist

from cops_lightning.report.stats.outcome import Outcome, too_few

# Of n datasets in every order the smallest p is 1 / n!, which 3 cannot bring below 0.05.
NEEDS_PERMUTED = 4
NEEDS_FEATURES = 10
# Random divisions that the floor of the Frechet distance is the mean of.
DIVISIONS = 5

Set = Float[np.ndarray, "n d"]
Pairs = Float[np.ndarray, "auxiliaries targets"]


@dataclass(frozen=True)
class Shift:
    """Distances between two sets of unit features.

    `frechet`: squared Frechet distance of the fitted normal distributions, >= 0; biased upwards where n is not far
    above d, so compare it with `floor`, what the features of both give when they are divided at random into sets of
    these sizes. `mmd`: squared maximum mean discrepancy (unbiased, Gaussian kernel, median
    bandwidth), `test` its permutation test of equal distributions. `centroid_cosine`: of the two mean directions.
    """

    n_a: int
    n_b: int
    d: int
    frechet: float
    floor: float
    mmd: float
    test: Outcome
    centroid_cosine: float


def compare_features(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], permutations: int = 500) -> Shift:
    """Every distance between two sets. Raises ValueError for a set of fewer than 2, or a row of zeros."""
    a, b = unit_rows(a), unit_rows(b)
    mmd, test = mmd_test(a, b, permutations)
    centre_a, centre_b = a.mean(axis=0), b.mean(axis=0)
    cosine = float(centre_a @ centre_b / (np.linalg.norm(centre_a) * np.linalg.norm(centre_b)))
    rng, both = np.random.default_rng(0), np.concatenate([a, b])
    divided = [np.split(both[rng.permutation(len(both))], [len(a)]) for _ in range(DIVISIONS)]
    floor = float(np.mean([frechet_distance(*halves) for halves in divided]))
    return Shift(len(a), len(b), a.shape[1], frechet_distance(a, b), floor, mmd, test, cosine)


def unit_rows(features: Set) -> Set:
    """Rows scaled to length 1, in double precision. Raises ValueError for a row of zeros."""
    features = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"{int((lengths == 0).sum())} of {len(features)} features are zero and have no direction.")
    return np.asarray(features / lengths)


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^1/2) of means and covariances. Raises ValueError for n < 2.

    Source: D. C. Dowson and B. V. Landau, J. Multivariate Analysis 12 (1982).
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"A covariance needs 2 features, got {len(a)} and {len(b)}.")
    centred = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    # trace((A B)^1/2) is the sum of singular values of X_a X_b^T: n x m numbers, and exact for singular covariances.
    cross = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    gap = float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2))
    return max(0.0, gap + float(sum(np.sum(x**2) for x in centred)) - 2 * float(cross))


def mmd_test(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], permutations: int = 500, seed: int = 0
) -> tuple[float, Outcome]:
    """Unbiased squared MMD with a Gaussian kernel, its bandwidth the median distance, and its permutation test.

    Source: A. Gretton et al., A kernel two-sample test, JMLR 13 (2012). The value may fall slightly below 0. The test
    needs `NEEDS_FEATURES` in each set. Raises ValueError for a set of fewer than 2.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(f"The unbiased MMD needs 2 features in each set, got {n} and {m}.")
    squared = cdist(np.concatenate([a, b]), np.concatenate([a, b]), "sqeuclidean")
    scale = float(np.median(squared[np.triu_indices(n + m, 1)]))
    kernel = np.exp(-squared / scale) if scale > 0 else np.ones_like(squared)
    np.fill_diagonal(kernel, 0)
    value = float(_mmd(kernel, (np.arange(n + m) < n)[None])[0])
    name, unit, fewest = "MMD permutation", "features in each set", min(n, m)
    if fewest < NEEDS_FEATURES:
        return value, too_few(name, unit, fewest, NEEDS_FEATURES)
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.permutation(n + m) < n for _ in range(permutations)])
    p = (1 + int((_mmd(kernel, chosen) >= value - 1e-15).sum())) / (1 + permutations)
    return value, Outcome(name, value, p)


def _mmd(kernel: np.ndarray, in_a: np.ndarray) -> np.ndarray:
    """Squared MMD for every assignment of the rows to A (True) or B, from a kernel matrix with zero diagonal."""
    x = in_a.astype(float)
    n, size = x.sum(axis=1), x.shape[1]
    m = size - n
    to_a = x @ kernel
    within_a = np.einsum("rs,rs->r", to_a, x)
    across = np.einsum("rs,rs->r", to_a, 1 - x)
    within_b = kernel.sum() - within_a - 2 * across
    return np.asarray(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * across / (n * m))


def mantel(distance: Pairs, performance: Pairs, most: int = 2000, seed: int = 0) -> Outcome:
    """Rank correlation over pairs of auxiliary (rows) and target (columns), and its two-sided permutation p-value.

    Pairs that share a row or a column are not independent, so whole datasets change places, as in Mantel's test: all
    columns of the longer side in every order, or in `most` random ones. Pairs that are NaN on either side do not count.
    """
    if distance.shape[0] > distance.shape[1]:
        distance, performance = distance.T, performance.T
    name, unit, n = "Mantel", "datasets that change places", distance.shape[1]
    x, y = (stats.rankdata(side, nan_policy="omit", axis=None).reshape(side.shape) for side in (distance, performance))
    rng = np.random.default_rng(seed)
    if n < NEEDS_PERMUTED:
        orders = np.arange(n)[None]
    elif math.factorial(n) <= most:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        orders = np.array([np.arange(n), *(rng.permutation(n) for _ in range(most - 1))])
    moved = y[:, orders].swapaxes(0, 1).reshape(len(orders), -1)
    still = np.where(np.isfinite(moved), x.ravel(), np.nan)
    moved = np.where(np.isfinite(still), moved, np.nan)
    a, b = (side - np.nanmean(side, axis=1, keepdims=True) for side in (still, moved))
    scale = np.sqrt(np.nansum(a**2, axis=1) * np.nansum(b**2, axis=1))
    found = np.divide(np.nansum(a * b, axis=1), scale, out=np.zeros(len(orders)), where=scale > 0)
    if n < NEEDS_PERMUTED:
        return replace(too_few(name, unit, n, NEEDS_PERMUTED), statistic=float(found[0]))
    p = float(np.mean(np.abs(found) >= abs(found[0]) - 1e-12))
    return Outcome(name, float(found[0]), p)
