"""How far two sets of features lie apart, and whether performance falls with the distance.

Features are compared by direction, as the method compares them: every row is scaled to unit length first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import cdist

from cops_lightning.report.stats.outcome import Outcome, too_few

# Of n pairs the smallest two-sided p of a rank correlation is 2 / n!, which 4 pairs cannot bring below 0.05.
NEEDS_PAIRS = 5
NEEDS_FEATURES = 10

Set = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Shift:
    """Distances between two sets of unit features.

    `frechet`: squared Frechet distance of the fitted normal distributions, >= 0; biased upwards where n is not far
    above d, so compare equal n only. `mmd`: squared maximum mean discrepancy (unbiased, Gaussian kernel, median
    bandwidth), `test` its permutation test of equal distributions. `centroid_cosine`: of the two mean directions.
    """

    n_a: int
    n_b: int
    d: int
    frechet: float
    mmd: float
    test: Outcome
    centroid_cosine: float


def compare_features(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], permutations: int = 500) -> Shift:
    """Every distance between two sets. Raises ValueError for a set of fewer than 2, or a row of zeros."""
    a, b = unit_rows(a), unit_rows(b)
    mmd, test = mmd_test(a, b, permutations)
    centre_a, centre_b = a.mean(axis=0), b.mean(axis=0)
    cosine = float(centre_a @ centre_b / (np.linalg.norm(centre_a) * np.linalg.norm(centre_b)))
    return Shift(len(a), len(b), a.shape[1], frechet_distance(a, b), mmd, test, cosine)


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
    return value, Outcome(name, unit, fewest, NEEDS_FEATURES, value, p)


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


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], unit: str = "datasets") -> Outcome:
    """Spearman's rank correlation (the statistic) with its permutation p-value, exact up to 7 pairs."""
    name, n = "Spearman", len(x)
    if n < NEEDS_PAIRS:
        return too_few(name, unit, n, NEEDS_PAIRS)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Outcome(name, unit, n, NEEDS_PAIRS, why="one of the two does not vary")
    ranks_x, ranks_y = stats.rankdata(x), stats.rankdata(y)

    centred = ranks_y - ranks_y.mean()
    scale = n * np.std(ranks_x) * np.std(ranks_y)

    def statistic(shuffled: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.moveaxis(shuffled, axis, -1) @ centred / scale)

    result = stats.permutation_test(
        (ranks_x,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=5040,
        rng=np.random.default_rng(0),
    )
    return Outcome(name, unit, n, NEEDS_PAIRS, float(result.statistic), min(1.0, float(result.pvalue)))
