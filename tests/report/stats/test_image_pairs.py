import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cops_lightning.report.stats.images import compare_aurocs


def study(rng, n=60, gain_a=1.0, gain_b=1.0, categories=2):
    """Correlated scores of two runs over the same images: a shared part, and noise of their own."""
    anomalous = np.arange(n) % 2 == 0
    shared = rng.normal(size=n)
    a, b = (gain * anomalous + shared + rng.normal(size=n) for gain in (gain_a, gain_b))
    return anomalous, a[None], b[None], np.arange(n) * categories // n


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


def test_with_one_seed_the_error_is_delongs_by_its_definition_with_ties():
    anomalous, a, b, one = study(np.random.default_rng(0), categories=1)
    a, b = a.round(), b.round(1)
    found = compare_aurocs(anomalous, a, b, one).estimate
    assert found.error**2 == pytest.approx(delong_by_definition(anomalous, a[0], b[0]))
    assert found.difference == pytest.approx(roc_auc_score(anomalous, a[0]) - roc_auc_score(anomalous, b[0]))


def test_aurocs_are_scikit_learns_averaged_over_categories_and_seeds():
    anomalous, a, b, categories = study(np.random.default_rng(1))
    a = np.concatenate([a.round(), b])
    found = compare_aurocs(anomalous, a, a[::-1].copy(), categories)
    per_seed = [
        np.mean([roc_auc_score(anomalous[categories == c], scores[categories == c]) for c in (0, 1)]) for scores in a
    ]
    assert found.a == found.b == pytest.approx(np.mean(per_seed))


def test_seeds_that_disagree_add_their_variance():
    anomalous, a, b, categories = study(np.random.default_rng(2), gain_a=2)
    # A's second seed is B's scores and the other way round: the mean difference is 0, and seeds alone vary.
    found = compare_aurocs(anomalous, np.concatenate([a, b]), np.concatenate([b, a]), categories).estimate
    one = compare_aurocs(anomalous, a, b, categories).estimate.difference
    assert found.difference == pytest.approx(0)
    assert found.error == pytest.approx(abs(one))  # sd of (one, -one) is sqrt(2) |one|, over sqrt(2) seeds


def test_under_no_difference_it_rejects_at_its_nominal_rate():
    rng, repeats = np.random.default_rng(3), 250
    found = [compare_aurocs(*study(rng, n=80)).estimate.p < 0.05 for _ in range(repeats)]
    assert np.mean(found) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / repeats))


def test_few_images_of_a_label_give_no_estimate_and_equal_rankings_no_doubt():
    anomalous, a, b, categories = study(np.random.default_rng(4), n=8, categories=1)
    found = compare_aurocs(anomalous, a, b, categories)
    assert (found.estimate, found.why) == (None, "needs 5 images per category and label, has 4")
    anomalous, a, _, categories = study(np.random.default_rng(5))
    assert compare_aurocs(anomalous, a, 2 * a, categories).estimate.p == 1


def test_a_category_of_one_label_is_named():
    with pytest.raises(ValueError, match="Category 0 has images of one label only"):
        compare_aurocs(np.ones(4, dtype=bool), np.ones((1, 4)), np.ones((1, 4)), np.zeros(4, dtype=int))
