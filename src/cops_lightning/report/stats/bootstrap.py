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


def bootstrap_iqm(strata: Strata, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Interquartile mean over all seeds and datasets, with its percentile interval.

    `strata` holds one array per dataset, with a value per seed. The bounds are None where a dataset has fewer than
    `NEEDS_SEEDS`. Raises ValueError without values.
    """
    _check(strata)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([values[_draw(rng, resamples, len(values))] for values in strata], axis=1)
    return _interval(np.concatenate(list(strata)), drawn, None, None, strata, confidence)


def bootstrap_iqm_difference(
    a: Strata, b: Strata, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Interquartile mean of A minus that of B. Values are paired by seed within a dataset and drawn in pairs.

    Raises ValueError if the pairs do not match or there are none.
    """
    _check(a)
    if [len(values) for values in a] != [len(values) for values in b]:
        raise ValueError("The bootstrap pairs A and B by seed within each dataset; their numbers of seeds differ.")
    rng = np.random.default_rng(seed)
    chosen = [_draw(rng, resamples, len(values)) for values in a]
    drawn_a, drawn_b = (
        np.concatenate([values[i] for values, i in zip(side, chosen, strict=True)], axis=1) for side in (a, b)
    )
    return _interval(np.concatenate(list(a)), drawn_a, np.concatenate(list(b)), drawn_b, a, confidence)


def _draw(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    return rng.integers(n, size=(resamples, n))


def _check(strata: Strata) -> None:
    if not len(strata) or not all(len(values) for values in strata):
        raise ValueError("The bootstrap needs at least one dataset, each with at least one seed.")


def _interval(
    a: np.ndarray, drawn_a: np.ndarray, b: np.ndarray | None, drawn_b: np.ndarray | None, strata: Strata, level: float
) -> Interval:
    mean = interquartile_mean(a) - (0 if b is None else interquartile_mean(b))
    if min(len(values) for values in strata) < NEEDS_SEEDS:
        return Interval(mean, None, None)
    spread = trim_mean(drawn_a, 0.25, axis=1)
    if drawn_b is not None:
        spread = spread - trim_mean(drawn_b, 0.25, axis=1)
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
