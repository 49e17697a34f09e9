import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cops_lightning.report.stats.variance import variance_components


def simulated(rng, datasets=40, seeds=40, sd=(3.0, 2.0, 1.0)):
    d, s, i = sd
    return rng.normal(0, d, (datasets, 1)) + rng.normal(0, s, (1, seeds)) + rng.normal(0, i, (datasets, seeds))


def test_simulated_components_are_recovered():
    splits = [variance_components(simulated(np.random.default_rng(k))) for k in range(20)]
    mean = {name: np.mean([getattr(s, name) for s in splits]) for name in ("dataset", "seed", "interaction")}
    assert mean["interaction"] == pytest.approx(1, rel=0.1)
    # 800 datasets and seeds in all: relative standard error sqrt(2 / 800) = 0.05.
    assert mean["seed"] == pytest.approx(4, rel=0.2)
    assert mean["dataset"] == pytest.approx(9, rel=0.2)


def test_a_table_by_hand():
    # Rows are datasets, with means 1.5 and 4.5 (variance 4.5); seeds have means 2.5 and 3.5 (variance 0.5). The
    # table is a sum of both, so nothing is left for their interaction.
    split = variance_components(np.array([[1.0, 2.0], [4.0, 5.0]]))
    assert (split.dataset, split.seed, split.interaction) == pytest.approx((4.5, 0.5, 0))


def test_mean_squares_are_those_of_statsmodels():
    values = simulated(np.random.default_rng(9), 4, 3)
    index = pd.MultiIndex.from_product([range(n) for n in values.shape], names=["dataset", "seed"])
    frame = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
    square = anova_lm(ols("value ~ C(dataset) + C(seed)", frame).fit())["mean_sq"]
    split = variance_components(values)
    assert split.interaction == pytest.approx(square["Residual"])
    assert split.seed == pytest.approx(max(0, (square["C(seed)"] - square["Residual"]) / 4))
    assert split.dataset == pytest.approx((square["C(dataset)"] - square["Residual"]) / 3)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3)])
def test_too_small_a_table_is_refused(shape):
    with pytest.raises(ValueError, match="need 2 datasets and 2 seeds"):
        variance_components(np.zeros(shape))
