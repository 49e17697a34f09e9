"""Where results vary: how much of the variance is due to dataset, seed, their interaction, and the latent draw."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cops_lightning.report.stats.paired import ROUNDING


@dataclass(frozen=True)
class VarianceComponents:
    """Variance components in the squared unit of the values; estimates below 0 are set to 0.

    `interaction`: a seed that helps on one dataset and hurts on another. `draw`: repeated evaluations that differ in
    their latent draws alone. Without repeated draws `draw` is None and is part of `interaction`; with a single dataset
    `dataset` and `interaction` are None, the latter part of `seed`.
    """

    dataset: float | None
    seed: float
    interaction: float | None
    draw: float | None

    @property
    def shares(self) -> dict[str, float]:
        """Share of each component in their sum, in [0, 1]; empty where nothing varies."""
        parts = {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}
        total = sum(parts.values())
        return {name: value / total for name, value in parts.items()} if total > 0 else {}


def variance_components(values: Float[np.ndarray, "datasets seeds draws"]) -> VarianceComponents:
    """Random-effects analysis of variance of a balanced table, by the method of moments.

    Datasets and seeds are crossed, draws are repetitions within both. Raises ValueError for fewer than 2 seeds, or for
    one dataset without repeated draws as nothing then tells their variances apart (that of seeds alone is `np.var`).
    """
    n_datasets, n_seeds, n_draws = values.shape
    if n_seeds < 2 or (n_datasets < 2 and n_draws < 2):
        raise ValueError(
            f"Variance components need 2 seeds, and 2 datasets or 2 draws; got {n_seeds} seeds, {n_datasets} datasets "
            f"and {n_draws} draws."
        )
    grand, cells = values.mean(), values.mean(axis=2)
    rows, columns = cells.mean(axis=1), cells.mean(axis=0)
    of_seeds = n_datasets * n_draws * _square(columns - grand) / (n_seeds - 1)
    of_draws = _square(values - cells[..., None]) / (values.size - cells.size) if n_draws > 1 else None
    if n_datasets == 1:
        assert of_draws is not None
        return VarianceComponents(None, _part(of_seeds - of_draws, n_draws), None, of_draws)
    of_datasets = n_seeds * n_draws * _square(rows - grand) / (n_datasets - 1)
    crossed = cells - rows[:, None] - columns + grand
    of_interaction = n_draws * _square(crossed) / ((n_datasets - 1) * (n_seeds - 1))
    # Expected mean squares of the two-way random model: each contains the components below it.
    return VarianceComponents(
        dataset=_part(of_datasets - of_interaction, n_seeds * n_draws),
        seed=_part(of_seeds - of_interaction, n_datasets * n_draws),
        interaction=of_interaction if of_draws is None else _part(of_interaction - of_draws, n_draws),
        draw=of_draws,
    )


def _square(deviations: np.ndarray) -> float:
    """Sum of squares, in which rounding of equal values counts as 0."""
    total = float(np.sum(deviations**2))
    return total if total > ROUNDING**2 * deviations.size else 0.0


def _part(excess: float, repetitions: int) -> float:
    return max(0.0, float(excess) / repetitions)
