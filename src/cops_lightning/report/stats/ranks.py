"""Several methods over several datasets: Friedman's test, Iman and Davenport's, Nemenyi's, and the critical difference.

Sources: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006); R. L. Iman and
J. M. Davenport, Communications in Statistics 9 (1980).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import scikit_posthocs
from jaxtyping import Float
from scipy import stats

from cops_lightning.report.stats.outcome import Outcome, too_few

# Below it Friedman's chi-square is a poor approximation, and no two of three methods could be told apart.
NEEDS_DATASETS = 6
NEEDS_METHODS = 3


@dataclass(frozen=True)
class RankComparison:
    """Mean rank of every method (1 is best), two tests of whether they differ at all, and which pairs do.

    `iman_davenport` is Friedman's statistic as an F, less conservative. Two methods differ at level 0.05 where their
    mean ranks are further apart than `critical_difference`; `nemenyi` holds the p-value of every pair. Both are None
    where the tests could not be made.
    """

    mean_ranks: Float[np.ndarray, " k"]
    friedman: Outcome
    iman_davenport: Outcome
    critical_difference: float | None
    nemenyi: Float[np.ndarray, "k k"] | None


def compare_ranks(values: Float[np.ndarray, "n k"], alpha: float = 0.05) -> RankComparison:
    """Compare k methods over n datasets by their ranks; a larger value is better. Ties share their mean rank.

    Raises ValueError for fewer than 3 methods: compare two by pairs.
    """
    n, k = values.shape
    if k < NEEDS_METHODS:
        raise ValueError(f"Friedman's test compares at least {NEEDS_METHODS} methods, got {k}; compare two by pairs.")
    ranks = stats.rankdata(-values, axis=1).mean(axis=0) if n else np.full(k, np.nan)
    names = ("Friedman", "Iman-Davenport")
    if n < NEEDS_DATASETS:
        few = [too_few(name, "datasets", n, NEEDS_DATASETS) for name in names]
        return RankComparison(ranks, few[0], few[1], None, None)
    if np.all(np.ptp(values, axis=1) == 0):
        why = "the methods are equal on every dataset"
        equal = [Outcome(name, why=why) for name in names]
        return RankComparison(ranks, equal[0], equal[1], None, None)
    result = stats.friedmanchisquare(*values.T)
    friedman = Outcome(names[0], float(result.statistic), float(result.pvalue))
    left = n * (k - 1) - float(result.statistic)
    f = (n - 1) * float(result.statistic) / left if left > 0 else float("inf")
    p = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    iman_davenport = Outcome(names[1], f, p)
    nemenyi = np.asarray(scikit_posthocs.posthoc_nemenyi_friedman(values), dtype=float)
    return RankComparison(ranks, friedman, iman_davenport, critical_difference(k, n, alpha), nemenyi)


@cache
def critical_difference(k: int, n: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks for k methods over n datasets."""
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n)))
