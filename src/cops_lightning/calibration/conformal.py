"""Split-conformal p-values and thresholds, over the sorted scores of n normal images.

If a further image is exchangeable with those n, its p-value is at most `level` with a probability of at most `level`,
whatever the distribution of scores, with ties and for any n (Vovk, Gammerman and Shafer, Algorithmic Learning in a
Random World, 2005; for outliers Bates et al., Annals of Statistics 51, 2023).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats

CONFIDENCE = 0.95  # of all intervals


def p_values(ordered: Float[np.ndarray, " n"], scores: Shaped[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    """(1 + how many of `ordered` are at least the score) / (n + 1), in (0, 1]; `ordered` ascends."""
    reached = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1 + reached) / (len(ordered) + 1))


def permitted(n: int, level: float) -> int:
    """The most of n + 1 images whose share is at most `level`: of n calibrated images one less may reach a score."""
    count = math.floor(level * (n + 1))  # to rounding, and the quotient is what p-values are compared by
    while (count + 1) / (n + 1) <= level:
        count += 1
    while count / (n + 1) > level:
        count -= 1
    return count


def needed(level: float) -> int:
    """The fewest normal images for which a p-value can be as small as `level`."""
    n = max(0, math.floor(1 / level) - 2)
    while not permitted(n, level):
        n += 1
    return n


def threshold(ordered: Float[np.ndarray, " n"], level: float) -> float | None:
    """The k-th smallest score, k = ceil((n + 1) (1 - level)): a score lies above it exactly if its p-value is at most
    `level`. None where n is less than `needed(level)`.
    """
    count = permitted(len(ordered), level)
    return float(ordered[len(ordered) - count]) if count else None


def false_alarms(n: int, level: float) -> tuple[float, float, float] | None:
    """The share of normal images above the threshold: its mean over calibrations of n images, and the bounds between
    which it lies in 95 % of them; None without a threshold.

    It is a Beta variable for scores without ties, and less with ties.
    """
    count = permitted(n, level)
    if not count:
        return None
    low, high = stats.beta.interval(CONFIDENCE, count, n + 1 - count)
    return count / (n + 1), float(low), float(high)


@cache
def proportion_interval(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for a share of which `hits` among `of` were seen."""
    found = stats.binomtest(hits, of).proportion_ci(CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def q_values(distinct: Float[np.ndarray, " k"], counts: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The smallest rate at which `select` chooses an image, by its p-value: adjusted p-values, in (0, 1].

    `distinct` p-values ascend; `counts` says how many of the images have each. A calibration of n images gives at most
    n + 1 of them, so of any number of images no more than these need to be held.
    """
    scaled = distinct * counts.sum() / counts.cumsum()
    return np.asarray(np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1))


def select(p_values: Float[np.ndarray, " n"] | Sequence[float], level: float) -> Bool[np.ndarray, " n"]:
    """Which of many images to call anomalous, so that in expectation at most `level` of these calls are false.

    It is the procedure of Benjamini and Hochberg, which keeps its level for p-values that share one calibration (Bates
    et al. 2023). Of m images none is selected where fewer than m / level - 1 normal images were calibrated with, unless
    several are anomalous.
    """
    distinct, place, counts = np.unique(np.asarray(p_values, float), return_inverse=True, return_counts=True)
    return np.asarray(chosen(q_values(distinct, counts), level)[place])


def chosen(q_values: Float[np.ndarray, " n"], level: float) -> Bool[np.ndarray, " n"]:
    """Which images are selected at this rate, by their q-values."""
    return np.asarray(q_values <= level * (1 + 1e-12))  # p * m / k is rounded twice
