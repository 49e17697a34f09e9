import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cops_lightning.report.stats import variance_components


def simulated(rng, datasets=40, seeds=40, draws=5, sd=(3.0, 2.0, 1.0, 0.5)):
    d, s, i, e = sd
    return (
        rng.normal(0, d, (datasets, 1, 1))
        + rng.normal(0, s, (1, seeds, 1))
        + rng.normal(0, i, (datasets, seeds, 1))
        + rng.normal(0, e, (datasets, seeds, draws))
    )


def test_simulated_components_are_recovered():
    splits = [variance_components(simulated(np.random.default_rng(k))) for k in range(20)]
    mean = {name: np.mean([getattr(s, name) for s in splits]) for name in ("dataset", "seed", "interaction", "draw")}
    assert mean["draw"] == pytest.approx(0.25, rel=0.05)
    assert mean["interaction"] == pytest.approx(1, rel=0.1)
    # 800 datasets and seeds in all: relative standard error sqrt(2 / 800) = 0.05.
    assert mean["seed"] == pytest.approx(4, rel=0.2)
    assert mean["dataset"] == pytest.approx(9, rel=0.2)


def test_a_table_by_hand_without_repeated_draws():
    # Rows are datasets, with means 1.5 and 4.5 (variance 4.5); seeds have means 2.5 and 3.5 (variance 0.5). The
    # table is a sum of both, so nothing is left for their interaction.
    split = variance_components(np.array([[[1.0], [2.0]], [[4.0], [5.0]]]))
    assert (split.dataset, split.seed, split.interaction) == pytest.approx((4.5, 0.5, 0))
    assert split.draw is None


def test_mean_squares_are_those_of_statsmodels():
    values = simulated(np.random.default_rng(9), 4, 3, 2)
    index = pd.MultiIndex.from_product([range(n) for n in values.shape], names=["dataset", "seed", "draw"])
    frame = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
    square = anova_lm(ols("value ~ C(dataset) * C(seed)", frame).fit())["mean_sq"]
    split = variance_components(values)
    assert split.draw == pytest.approx(square["Residual"])
    assert split.interaction == pytest.approx((square["C(dataset):C(seed)"] - square["Residual"]) / 2)
    assert split.seed == pytest.approx(max(0, (square["C(seed)"] - square["C(dataset):C(seed)"]) / (4 * 2)))
    assert split.dataset == pytest.approx((square["C(dataset)"] - square["C(dataset):C(seed)"]) / (3 * 2))


def test_one_dataset_splits_into_seed_and_draw():
    # Draws of one seed differ by 2 (variance 2), seeds by 10: mean square of seeds 100, so (100 - 2) / 2.
    split = variance_components(np.array([[[0.0, 2.0], [10.0, 12.0]]]))
    assert (split.dataset, split.interaction) == (None, None)
    assert (split.seed, split.draw) == pytest.approx((49, 2))


def test_shares_sum_to_one_and_nothing_that_varies_has_none():
    assert sum(variance_components(simulated(np.random.default_rng(0), 5, 5, 2)).shares.values()) == pytest.approx(1)
    assert variance_components(np.full((2, 2, 2), 0.5)).shares == {}


def test_too_small_a_table_is_refused():
    with pytest.raises(ValueError, match="got 1 seeds, 3 datasets and 4 draws"):
        variance_components(np.zeros((3, 1, 4)))
