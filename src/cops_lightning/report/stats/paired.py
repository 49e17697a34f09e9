"""Two methods over the same seeds, or over the same datasets: is the difference real, how large is it?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.power import TTestPower

from cops_lightning.report.stats.outcome import Outcome, too_few

# Two pairs give a paired t one degree of freedom: its interval is 13 times the standard error and tells nothing.
NEEDS_T = 3
# Of n differences without a tie the smallest two-sided p is 2 / 2^n, which 5 pairs cannot bring below 0.05.
NEEDS_WILCOXON = 6
# Differences that vary less than this are rounding.
ROUNDING = 1e-12
MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; the bounds are None where n is below 2."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """A minus B over n pairs, in the unit of the values.

    `effect` is Cohen's d of the differences (mean over standard deviation) with Hedges' small-sample factor; None
    where the differences do not vary. `t` and `wilcoxon` are two-sided tests against no difference.
    """

    n: int
    difference: Interval
    deviation: float | None
    effect: float | None
    t: Outcome
    wilcoxon: Outcome


def mean_interval(values: Float[np.ndarray, " n"], confidence: float = 0.95) -> Interval:
    """Mean and its Student-t interval. Raises ValueError without values."""
    if not len(values):
        raise ValueError("A mean needs at least one value, got none.")
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def compare_pairs(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"], unit: str = "seeds") -> Paired:
    """Compare paired values; a[i] and b[i] share their seed, or their dataset. Raises ValueError if lengths differ.

    The paired t-test assumes differences that are close to normal; Wilcoxon's signed-rank test only that they are
    symmetric. Zero differences do not count towards the pairs that Wilcoxon's test needs.
    """
    if a.shape != b.shape:
        raise ValueError(f"Pairs need as many values of A as of B, got {len(a)} and {len(b)}.")
    d = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n = len(d)
    varies = n > 1 and float(np.ptp(d)) > ROUNDING
    deviation = float(np.std(d, ddof=1)) if n > 1 else None
    effect = None
    if varies and deviation and n >= NEEDS_T:
        effect = float(np.mean(d)) / deviation * (1 - 3 / (4 * (n - 1) - 1))
    return Paired(n, mean_interval(d), deviation, effect, _paired_t(a, b, varies, unit), _wilcoxon(d, unit))


def _paired_t(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], varies: bool, unit: str) -> Outcome:
    name, n = "paired t", len(a)
    if n < NEEDS_T:
        return too_few(name, unit, n, NEEDS_T)
    if not varies:
        return Outcome(name, unit, n, NEEDS_T, why=f"the difference is the same over all {n} {unit}")
    result = stats.ttest_rel(a, b)
    return Outcome(name, unit, n, NEEDS_T, float(result.statistic), float(result.pvalue))


def _wilcoxon(d: Float[np.ndarray, " n"], unit: str) -> Outcome:
    name = "Wilcoxon signed-rank"
    kept = d[np.abs(d) > ROUNDING]
    if len(kept) < NEEDS_WILCOXON:
        return too_few(name, f"{unit} that differ" if len(kept) < len(d) else unit, len(kept), NEEDS_WILCOXON)
    # Rounding in the last place must not break ties between differences that are equal.
    result = stats.wilcoxon(np.round(kept, 12))
    return Outcome(name, unit, len(kept), NEEDS_WILCOXON, float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of a family of p-values. Tests that were not made (None) do not count."""
    # Not statsmodels' multipletests: each call collects garbage, up to a second each time in a process with torch.
    made = np.array([p for p in p_values if p is not None], dtype=float)
    order = np.argsort(made)
    steps = np.maximum.accumulate(np.minimum(1, made[order] * np.arange(len(made), 0, -1)))
    adjusted = iter(steps[np.argsort(order)].tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def pairs_needed(margin: float, deviation: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """How many pairs a two-sided paired t-test needs to detect a mean difference of `margin` with this power.

    `deviation` is the standard deviation of the differences, in the unit of `margin`. None where no number suffices:
    a margin of 0, or one that needs more than 100,000 pairs. At least `NEEDS_T`.
    """
    if margin == 0:
        return None
    if deviation <= ROUNDING:
        return NEEDS_T
    effect = abs(margin) / deviation
    # The normal approximation is a few pairs short, never more than 1 % of them or 10.
    normal = (stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / effect
    first = max(NEEDS_T, int(normal**2))
    if first > MOST_PAIRS:
        return None
    tried = np.arange(max(NEEDS_T, first - 10), first + first // 100 + 11)
    reached = TTestPower().power(effect, tried, alpha) >= power
    return int(tried[np.argmax(reached)])
