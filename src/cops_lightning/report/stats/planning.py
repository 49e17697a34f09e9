"""Before the next study: what a design of seeds x datasets could find, by simulation under the rule that decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy import stats

from cops_lightning.report.stats.crossed import Scope, Table, interaction

POWER = 0.8
DRAWS = 4000


@dataclass(frozen=True)
class Pilot:
    """Mean squares of the differences of a finished study, with its size: how far each source moves them."""

    n_datasets: int
    n_seeds: int
    datasets: float
    seeds: float
    rest: float

    @classmethod
    def of(cls, groups: Sequence[Table], constant: Float[np.ndarray, " datasets"]) -> "Pilot":
        """From what `estimate` takes, of at least 2 datasets and one group of 2 seeds.

        Seeds that were not paired are planned for as pairs of independent ones, as many as the smaller group has.
        """
        by_dataset = constant + sum(group.mean(axis=1) for group in groups)
        n, s = len(constant), min(group.shape[1] for group in groups)
        seeds = sum(n * float(group.mean(axis=0).var(ddof=1)) for group in groups)
        rest = sum(interaction(group) for group in groups)
        return cls(n, s, s * float(by_dataset.var(ddof=1)), seeds, rest)


@lru_cache(maxsize=4096)  # the answer and the table ask the same
def detectable(pilot: Pilot, n_datasets: int, n_seeds: int, scope: Scope, alpha: float = 0.05, seed: int = 0) -> float:
    """The smallest true difference that such a study finds with a probability of `POWER`, in the unit of the pilot.

    The pilot's own uncertainty is part of it: every simulated study draws how large the sources are from what the pilot
    leaves open, so a pilot of few seeds gives a large number, as it should.
    """
    d, s = pilot.n_datasets - 1, pilot.n_seeds - 1
    dfs = [d * s, d, s, n_seeds - 1]
    if scope == "new_datasets":
        dfs += [n_datasets - 1, (n_datasets - 1) * (n_seeds - 1)]
    (of_rest, of_d, of_s, of_n_seeds, *of_n), normal = _squares(tuple(dfs), seed)
    rest = pilot.rest / of_rest
    of_datasets = np.maximum(pilot.datasets / of_d - rest, 0) / pilot.n_seeds
    of_seeds = np.maximum(pilot.seeds / of_s - rest, 0) / pilot.n_datasets
    size = n_datasets * n_seeds
    expected = {"datasets": n_seeds * of_datasets + rest, "seeds": n_datasets * of_seeds + rest, "rest": rest}
    found_seeds = expected["seeds"] * of_n_seeds
    error, truth = found_seeds, of_seeds / n_seeds + rest / size
    critical = np.full(DRAWS, stats.t.isf(alpha / 2, n_seeds - 1))
    if scope == "new_datasets":
        of_n_datasets, of_both = of_n
        found = expected["datasets"] * of_n_datasets
        both = found + found_seeds - expected["rest"] * of_both
        error = np.maximum(both, np.maximum(found, found_seeds))
        truth = truth + of_datasets / n_datasets
        weight = found / np.maximum(found + found_seeds, np.finfo(float).tiny)
        critical = weight * stats.t.isf(alpha / 2, n_datasets - 1) + (1 - weight) * critical
    # Found where difference + chance > critical x error; the quantile of what that asks of the difference.
    chance = np.sqrt(truth) * normal
    return max(0.0, float(np.quantile(critical * np.sqrt(error / size) - chance, POWER)))


@lru_cache(maxsize=64)
def _squares(dfs: tuple[int, ...], seed: int) -> tuple[list[Float[np.ndarray, " draws"]], Float[np.ndarray, " draws"]]:
    """What chance makes of mean squares with these degrees of freedom, and standard normal draws: the claims of a page
    have few designs, so these are drawn once for each."""
    rng = np.random.default_rng(seed)
    return [rng.chisquare(df, DRAWS) / df for df in dfs], rng.standard_normal(DRAWS)
