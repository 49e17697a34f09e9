"""Two methods over seeds x datasets at once, beyond the mean: what rliable reports, with seeds drawn jointly.

Source: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, NeurIPS 2021. There
every task has runs of its own; here a seed is scored on all datasets, so the bootstrap draws whole seeds. Datasets
stay, and an interval speaks of these datasets only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

from cops_lightning.report.stats.crossed import Table
from cops_lightning.report.stats.outcome import Interval

# Resampling fewer seeds repeats them so often that the interval is far too short.
NEEDS_SEEDS = 5
RESAMPLES = 1000


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
    chosen_a = rng.integers(a.shape[1], size=(RESAMPLES, a.shape[1]))
    chosen_b = chosen_a if paired else rng.integers(b.shape[1], size=(RESAMPLES, b.shape[1]))
    enough = all(of.shape[1] >= NEEDS_SEEDS or of.shape[1] == 1 for of in (a, b)) and a.shape[1] + b.shape[1] > 2

    def iqm(of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        differences = of_a - of_b if paired else of_a[..., :, None] - of_b[..., None, :]
        return np.asarray(trim_mean(differences.reshape(len(differences), -1), 0.25, axis=1))

    above = (np.sign(a[:, :, None] - b[:, None, :]).mean(axis=0) + 1) / 2  # how often each seed of A is above each of B
    figures = (float(iqm(a[None], b[None])[0]), float(above.mean()))
    if not enough:
        return Aggregates(*(Interval(figure, None, None) for figure in figures))
    often_a, often_b = (
        (chosen[:, :, None] == np.arange(of.shape[1])).mean(axis=1) for chosen, of in ((chosen_a, a), (chosen_b, b))
    )
    drawn = (
        iqm(a.T[chosen_a].swapaxes(1, 2), b.T[chosen_b].swapaxes(1, 2)),
        np.einsum("ra,ab,rb->r", often_a, above, often_b, optimize=True),
    )
    bounds = [np.quantile(of, [0.025, 0.975]).tolist() for of in drawn]
    return Aggregates(*(Interval(figure, low, high) for figure, (low, high) in zip(figures, bounds, strict=True)))


def profile(values: Table, thresholds: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Performance profile: the share of runs, over datasets and seeds, that score above each threshold."""
    return np.asarray((values[None] > thresholds[:, None, None]).mean(axis=(1, 2)))
