"""Stratified bootstrap over seeds x datasets, summarised by the interquartile mean.

Source: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice, NeurIPS 2021. The
strata are datasets: seeds are drawn anew within each, datasets stay, so an interval speaks of these datasets only.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import trim_mean

from cops_lightning.report.stats.paired import Interval

# Resampling fewer values repeats them so often that the interval is far too short.
NEEDS_SEEDS = 3

Strata = Sequence[Float[np.ndarray, " _"]]


def interquartile_mean(values: Float[np.ndarray, "*n"]) -> float:
    """Mean of the middle half: less moved by an odd run than the mean, less wasteful than the median."""
    return float(trim_mean(values, 0.25, axis=None))


def bootstrap_iqm_difference(
    a: Strata, b: Strata, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Interquartile mean of A over all seeds and datasets minus that of B, with its percentile interval.

    The bounds are None where a dataset has fewer than `NEEDS_SEEDS`.

    Args:
        a: An array per dataset, with a value per seed.
        b: The same; values are paired by seed within a dataset and drawn in pairs.
        confidence: Of the interval.
        resamples: How often seeds are drawn.
        seed: Of the draws.

    Raises ValueError if the pairs do not match or there are none.
    """
    if not len(a) or not all(len(values) for values in a):
        raise ValueError("The bootstrap needs at least one dataset, each with at least one seed.")
    if [len(values) for values in a] != [len(values) for values in b]:
        raise ValueError("The bootstrap pairs A and B by seed within each dataset; their numbers of seeds differ.")
    mean = interquartile_mean(np.concatenate(list(a))) - interquartile_mean(np.concatenate(list(b)))
    if min(map(len, a)) < NEEDS_SEEDS:
        return Interval(mean, None, None)
    rng = np.random.default_rng(seed)
    chosen = [rng.integers(len(values), size=(resamples, len(values))) for values in a]
    drawn_a, drawn_b = (
        np.concatenate([values[i] for values, i in zip(side, chosen, strict=True)], axis=1) for side in (a, b)
    )
    spread = trim_mean(drawn_a, 0.25, axis=1) - trim_mean(drawn_b, 0.25, axis=1)
    low, high = np.quantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high))
