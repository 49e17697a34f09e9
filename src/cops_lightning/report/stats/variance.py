"""Where results vary: how much of the variance is due to dataset, seed, and their interaction."""

from dataclasses import dataclass

import numpy as np

from cops_lightning.report.stats.crossed import Table, interaction


@dataclass(frozen=True)
class VarianceComponents:
    """Variance components in the squared unit of the values; estimates below 0 are set to 0.

    `interaction`: a seed that helps on one dataset and hurts on another, and whatever else differs from run to run.
    """

    dataset: float
    seed: float
    interaction: float


def variance_components(values: Table) -> VarianceComponents:
    """Random-effects analysis of variance of datasets x seeds, by the method of moments.

    Raises ValueError for fewer than 2 seeds or datasets.
    """
    n_datasets, n_seeds = values.shape
    if min(values.shape) < 2:
        raise ValueError(f"Variance components need 2 datasets and 2 seeds; got {n_datasets} and {n_seeds}.")
    rest = interaction(values)
    # Expected mean squares of the two-way random model: each contains the interaction.
    of_datasets, of_seeds = (float(np.var(values.mean(axis=axis), ddof=1)) for axis in (1, 0))
    return VarianceComponents(max(0.0, of_datasets - rest / n_seeds), max(0.0, of_seeds - rest / n_datasets), rest)
