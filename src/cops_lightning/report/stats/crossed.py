"""The rule that decides: seeds and datasets are crossed, as readers and cases are in radiology.

A trained checkpoint (a seed) is scored on every dataset, so its luck moves all of them at once: datasets that share
their checkpoints are no independent repetitions. The difference of two methods is modelled as

    difference[dataset, seed] = mean + dataset + seed + (seed x dataset and the rest)

and its mean is judged by one standard error and one reference distribution, from which test, p-value and interval come.

Sources: S. L. Hillis, N. A. Obuchowski and K. S. Berbaum, Academic Radiology 18 (2011), for the design; W. G. Cochran,
Biometrics 20 (1964), for the reference distribution of an error with several sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

Scope = Literal["new_datasets", "these_datasets"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
SCOPE_NAMES: dict[Scope, str] = {
    "new_datasets": "new seeds, new datasets",
    "these_datasets": "new seeds, these datasets",
}
# Differences that vary less than this, in points, are rounding.
ROUNDING = 1e-9

Table = Float[np.ndarray, "datasets _"]


@dataclass(frozen=True)
class Source:
    """One source of error of a mean: its share in the variance of the mean, and the degrees of freedom behind it."""

    variance: float
    df: int


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its standard error, and the sources that the error was estimated from.

    (difference - truth) / error is compared with a distribution whose quantiles are those of Student's t, averaged
    over the sources by their variance. It is Student's own where there is one source; with several it keeps the level
    where Satterthwaite's single number of degrees of freedom is too bold, with three seeds on a dozen datasets.
    """

    difference: float
    error: float
    sources: tuple[Source, ...] = ()

    def quantile(self, tail: float) -> float:
        """What the standardised difference exceeds with this probability, 0 < tail < 1."""
        weights = np.array([source.variance for source in self.sources])
        quantiles = -special.stdtrit(np.array([source.df for source in self.sources], dtype=float), tail)
        return float(quantiles @ weights / weights.sum())

    def tail(self, excess: float) -> float:
        """Probability that chance moves the difference up by more than this, in the unit of the difference."""
        if self.error == 0:
            return float(excess < 0) if excess else 0.5
        if excess < 0:
            return 1 - self.tail(-excess)
        x = excess / self.error
        if len(self.sources) == 1:
            return float(special.stdtr(self.sources[0].df, -x))
        bound = -300.0  # of smaller tails than e^-300 scipy has no quantiles
        if self.quantile(np.exp(bound)) <= x:
            return 0.0
        return float(np.exp(optimize.brentq(lambda log: self.quantile(np.exp(log)) - x, bound, np.log(0.5))))

    @property
    def p(self) -> float:
        """Two-sided, against no difference."""
        return min(1.0, 2 * self.tail(abs(self.difference)))

    def p_equivalent(self, margin: float) -> float:
        """Against a difference of at least `margin` to either side: the larger of two one-sided tests.

        Source: D. J. Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987).
        """
        return self.tail(margin - abs(self.difference))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The differences that the two-sided test at this level does not reject."""
        half = self.error * self.quantile((1 - confidence) / 2) if self.error else 0.0
        return self.difference - half, self.difference + half


def estimate(groups: Sequence[Table], constant: Float[np.ndarray, " datasets"], scope: Scope) -> Estimate:
    """The mean difference over datasets, from the parts that it is the sum of.

    Args:
        groups: Tables of datasets x seeds whose seeds are drawn independently of the other groups': one table of
            differences where seeds are paired, A and minus B where they are not. Each needs 2 seeds.
        constant: What does not depend on a seed, by dataset.
        scope: Whether the datasets are a sample of others too. That needs 2 of them.
    """
    by_dataset = constant + sum((group.mean(axis=1) for group in groups), np.zeros(len(constant)))
    n = len(by_dataset)
    seeds = tuple(Source(_variance(group.mean(axis=0)), group.shape[1] - 1) for group in groups)
    of_seeds = sum(source.variance for source in seeds)
    if scope == "these_datasets":
        return Estimate(float(by_dataset.mean()), float(np.sqrt(of_seeds)), seeds)
    datasets = Source(_variance(by_dataset), n - 1)
    # What seeds and datasets both contain is subtracted once, but no source may be estimated away by it.
    both = sum(interaction(group) / group.size for group in groups)
    variance = max(datasets.variance + of_seeds - both, datasets.variance, of_seeds)
    return Estimate(float(by_dataset.mean()), float(np.sqrt(variance)), (datasets, *seeds))


def _variance(values: Float[np.ndarray, " n"]) -> float:
    """Of the mean of these values; 0 where they differ by rounding alone."""
    return float(np.var(values, ddof=1)) / len(values) if np.ptp(values) > ROUNDING else 0.0


def interaction(group: Table) -> float:
    """Mean square of what neither the dataset nor the seed explains."""
    rest = group - group.mean(axis=1, keepdims=True) - group.mean(axis=0) + group.mean()
    return float(np.sum(rest**2) / ((group.shape[0] - 1) * (group.shape[1] - 1)))


def probabilities(
    groups: Sequence[Table],
    constant: Float[np.ndarray, " datasets"],
    margin: float,
    scope: Scope,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Posterior probabilities that A is worse by more than the margin, within it, or better by more.

    For new datasets Benavoli's signed-rank test with a region of practical equivalence; for these, of their mean.
    Seeds are drawn as datasets are, by Dirichlet weights and one set of them for all datasets, since the test on
    datasets alone would take the luck of shared checkpoints for evidence. With few seeds it is bolder than an interval.

    Source: A. Benavoli et al., Time for a change, JMLR 18 (2017).
    """
    rng = np.random.default_rng(seed)
    drawn = np.tile(constant, (draws, 1))
    for group in groups:
        drawn = drawn + rng.dirichlet(np.ones(group.shape[1]), draws) @ group.T
    if scope == "these_datasets":
        drawn = drawn.mean(axis=1)[:, None, None]
        weights = np.ones((draws, 1, 1))
    else:
        # One observation of no difference, with half the weight of a dataset, is the prior.
        drawn = np.column_stack([np.zeros(draws), drawn])
        weight = rng.dirichlet([0.5, *np.ones(len(constant))], draws)
        drawn = (drawn[:, :, None] + drawn[:, None, :]) / 2
        weights = weight[:, :, None] * weight[:, None, :]
    worse, better = ((weights * beyond).sum(axis=(1, 2)) for beyond in (drawn < -margin, drawn > margin))
    within = weights.sum(axis=(1, 2)) - worse - better
    shares = np.bincount(np.argmax([worse, within, better], axis=0), minlength=3) / draws
    return float(shares[0]), float(shares[1]), float(shares[2])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of a family of p-values. Tests that were not made (None) do not count."""
    # Not statsmodels' multipletests: each call collects garbage, up to a second each time in a process with torch.
    made = np.array([p for p in p_values if p is not None], dtype=float)
    order = np.argsort(made)
    steps = np.maximum.accumulate(np.minimum(1, made[order] * np.arange(len(made), 0, -1)))
    adjusted = iter(steps[np.argsort(order)].tolist())
    return [None if p is None else next(adjusted) for p in p_values]
