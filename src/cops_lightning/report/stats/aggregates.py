"""Two methods over seeds x datasets at once, beyond the mean: what rliable reports, with seeds drawn jointly.

Source: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, NeurIPS 2021. There
every task has runs of its own; here a seed is scored on all datasets, so the bootstrap draws whole seeds. Datasets
stay, and an interval speaks of these datasets only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import trim_mean

from cops_lightning.report.stats.crossed import Table
from cops_lightning.report.stats.outcome import Interval

# Resampling fewer seeds repeats them so often that the interval is far too short.
NEEDS_SEEDS = 5
RESAMPLES = 1000
# The interquartile mean leaves out this share of the values at either end.
TRIMMED = 0.25


@dataclass(frozen=True)
class Aggregates:
    """`iqm`: interquartile mean of A minus B over seeds and datasets, in the unit of the values. `improvement`:
    probability that a run of A is better than one of B on a dataset, ties count half, mean over datasets."""

    iqm: Interval
    improvement: Interval


def aggregate(a: Table, b: Table, paired: bool, seed: int = 0) -> Aggregates:
    """Both figures with 95 % percentile intervals; without bounds where a method that varies has fewer than 5 seeds.

    Differences are those of equal seeds where A and B are paired column by column, else of every seed with every other.
    """
    rng = np.random.default_rng(seed)
    often_a = _drawn(rng, a.shape[1])
    often_b = often_a if paired else _drawn(rng, b.shape[1])
    enough = all(of.shape[1] >= NEEDS_SEEDS or of.shape[1] == 1 for of in (a, b)) and a.shape[1] + b.shape[1] > 2
    differences = a - b if paired else (a[:, :, None] - b[:, None, :]).reshape(len(a), -1)
    above = (np.sign(a[:, :, None] - b[:, None, :]).mean(axis=0) + 1) / 2  # how often each seed of A is above each of B
    figures = (float(trim_mean(differences, TRIMMED, axis=None)), float(above.mean()))
    if not enough:
        return Aggregates(*(Interval(figure, None, None) for figure in figures))
    often = often_a if paired else (often_a[:, :, None] * often_b[:, None, :]).reshape(RESAMPLES, -1)
    drawn = (
        _trimmed_means(differences, often),
        np.einsum("ra,ab,rb->r", often_a / a.shape[1], above, often_b / b.shape[1], optimize=True),
    )
    bounds = [np.quantile(of, [0.025, 0.975]).tolist() for of in drawn]
    return Aggregates(*(Interval(figure, low, high) for figure, (low, high) in zip(figures, bounds, strict=True)))


def _drawn(rng: np.random.Generator, n: int) -> Int[np.ndarray, "r n"]:
    """How often each of n seeds is in each of `RESAMPLES` samples of n seeds."""
    chosen = rng.integers(n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(chosen.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n)


def _trimmed_means(values: Table, often: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """The trimmed mean of all values, column k of them taken `often[k]` times. Sorted once, not in every sample."""
    order = np.argsort(values, axis=None)
    size = values.shape[0] * int(often[0].sum())
    cut = int(TRIMMED * size)
    until = often[:, order % values.shape[1]].cumsum(axis=1)
    inside = np.diff(np.clip(until, cut, size - cut), prepend=cut, axis=1)
    return np.asarray(inside @ values.ravel()[order] / (size - 2 * cut))


def profile(values: Table, thresholds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Performance profile: the share of runs, over datasets and seeds, that score above each threshold."""
    return np.asarray((values[None] > thresholds[:, None, None]).mean(axis=(1, 2)))
