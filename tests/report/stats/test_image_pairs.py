import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cops_lightning.report.stats import bootstrap_images, delong


def study(rng, n=60, gain_a=1.0, gain_b=1.0, categories=2):
    """Correlated scores of two runs over the same images: a shared part, and noise of their own."""
    anomalous = np.arange(n) % 2 == 0
    shared = rng.normal(size=n)
    a, b = (gain * anomalous + shared + rng.normal(size=n) for gain in (gain_a, gain_b))
    return anomalous, a, b, np.arange(n) * categories // n


def delong_by_definition(anomalous, a, b):
    """Variance of the difference from the structural components, as DeLong writes them."""
    v10, v01 = [], []
    for scores in (a, b):
        compared = [[(x > y) + (x == y) / 2 for y in scores[~anomalous]] for x in scores[anomalous]]
        v10.append(np.mean(compared, axis=1))
        v01.append(np.mean(compared, axis=0))
    s10, s01 = np.cov(v10), np.cov(v01)
    s = s10 / anomalous.sum() + s01 / (~anomalous).sum()
    return s[0, 0] + s[1, 1] - 2 * s[0, 1]


def test_delongs_variance_is_that_of_its_definition_with_ties():
    anomalous, a, b, one = study(np.random.default_rng(0), categories=1)
    a, b = a.round(), b.round(1)
    result = delong(anomalous, a, b, one)
    z = (roc_auc_score(anomalous, a) - roc_auc_score(anomalous, b)) / np.sqrt(delong_by_definition(anomalous, a, b))
    assert result.test.statistic == pytest.approx(z)


@pytest.mark.parametrize("compare", [delong, bootstrap_images])
def test_aurocs_are_scikit_learns_averaged_over_categories(compare):
    anomalous, a, b, categories = study(np.random.default_rng(1))
    a = a.round()
    result = compare(anomalous, a, b, categories)
    for found, scores in ((result.a, a), (result.b, b)):
        per_category = [roc_auc_score(anomalous[categories == c], scores[categories == c]) for c in (0, 1)]
        assert found == pytest.approx(np.mean(per_category))


def test_delong_and_the_bootstrap_agree():
    anomalous, a, b, categories = study(np.random.default_rng(2), n=200, gain_a=2)
    first, second = delong(anomalous, a, b, categories), bootstrap_images(anomalous, a, b, categories)
    assert first.difference.mean == second.difference.mean
    assert first.difference.low == pytest.approx(second.difference.low, abs=0.015)
    assert first.difference.high == pytest.approx(second.difference.high, abs=0.015)
    assert first.test.p < 0.05
    assert second.test.p < 0.05


@pytest.mark.parametrize("compare", [delong, bootstrap_images])
def test_under_no_difference_it_rejects_at_its_nominal_rate_and_its_interval_covers(compare):
    rng, repeats = np.random.default_rng(3), 250
    options = {"resamples": 400} if compare is bootstrap_images else {}
    results = [compare(*study(rng, n=80), **options) for _ in range(repeats)]
    error = 4 * np.sqrt(0.05 * 0.95 / repeats)
    assert np.mean([r.test.p < 0.05 for r in results]) == pytest.approx(0.05, abs=error)
    covered = np.mean([r.difference.low <= 0 <= r.difference.high for r in results])
    assert covered == pytest.approx(0.95, abs=error)


@pytest.mark.parametrize("compare", [delong, bootstrap_images])
def test_few_images_of_a_label_give_no_p_value(compare):
    anomalous, a, b, categories = study(np.random.default_rng(4), n=8, categories=1)
    assert compare(anomalous, a, b, categories).test.why == "needs 5 images per category and label, has 4"


def test_equal_rankings_have_no_test():
    anomalous, a, _, categories = study(np.random.default_rng(5))
    assert delong(anomalous, a, 2 * a, categories).test.why == "both runs rank the images alike"


def test_a_category_of_one_label_is_named():
    with pytest.raises(ValueError, match="Category 0 has images of one label only"):
        delong(np.ones(4, dtype=bool), np.arange(4.0), np.arange(4.0), np.zeros(4, dtype=int))
