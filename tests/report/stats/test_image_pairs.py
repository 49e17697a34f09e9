import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cops_lightning.report.stats.images import compare_aurocs, difference


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
    found = difference([compare_aurocs(anomalous, a, b, one)])
    assert found.error**2 == pytest.approx(delong_by_definition(anomalous, a[0], b[0]))
    assert found.difference == pytest.approx(roc_auc_score(anomalous, a[0]) - roc_auc_score(anomalous, b[0]))


def test_aurocs_are_scikit_learns_averaged_over_categories_and_seeds():
    anomalous, a, b, categories = study(np.random.default_rng(1))
    a = np.concatenate([a.round(), b])
    found = compare_aurocs(anomalous, a, a[::-1].copy(), categories)
    per_seed = [
        np.mean([roc_auc_score(anomalous[categories == c], scores[categories == c]) for c in (0, 1)]) for scores in a
    ]
    assert found.a == pytest.approx(per_seed)
    assert found.b == pytest.approx(per_seed[::-1])


def test_seeds_that_disagree_add_their_variance():
    anomalous, a, b, categories = study(np.random.default_rng(2), gain_a=2)
    # A's second seed is B's scores and the other way round: the mean difference is 0, and seeds alone vary.
    found = difference([compare_aurocs(anomalous, np.concatenate([a, b]), np.concatenate([b, a]), categories)])
    one = difference([compare_aurocs(anomalous, a, b, categories)]).difference
    assert found.difference == pytest.approx(0)
    assert found.error == pytest.approx(abs(one))  # sd of (one, -one) is sqrt(2) |one|, over sqrt(2) seeds


def test_under_no_difference_it_rejects_at_its_nominal_rate():
    rng, repeats = np.random.default_rng(3), 250
    found = [difference([compare_aurocs(*study(rng, n=80))]).p < 0.05 for _ in range(repeats)]
    assert np.mean(found) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / repeats))


def test_few_images_of_a_label_give_no_estimate_and_equal_rankings_no_doubt():
    anomalous, a, b, categories = study(np.random.default_rng(4), n=8, categories=1)
    found = compare_aurocs(anomalous, a, b, categories)
    assert (difference([found]), found.why) == (None, "needs 5 images per category and label, has 4")
    anomalous, a, _, categories = study(np.random.default_rng(5))
    assert difference([compare_aurocs(anomalous, a, 2 * a, categories)]).p == 1


def test_a_category_of_one_label_is_named():
    with pytest.raises(ValueError, match="Category 0 has images of one label only"):
        compare_aurocs(np.ones(4, dtype=bool), np.ones((1, 4)), np.ones((1, 4)), np.zeros(4, dtype=int))


def test_over_datasets_images_are_independent_and_a_seed_is_one_draw():
    # Three seeds move two datasets: variances of images add up over the squared number of datasets; that of the seeds
    # is of their means over datasets, which is 0 where what a seed gains on the one it loses on the other.
    rng = np.random.default_rng(5)
    anomalous, a, b, categories = study(rng, gain_a=2)
    one = compare_aurocs(anomalous, np.concatenate([a, b, a]), np.concatenate([b, a, b]), categories)
    other = compare_aurocs(anomalous, np.concatenate([b, a, b]), np.concatenate([a, b, a]), categories)
    found = difference([one, other])
    assert found.difference == pytest.approx(0)
    assert [source.df for source in found.sources] == [2 * (60 - 2), 2]
    assert found.error**2 == pytest.approx((one.images.variance + other.images.variance) / 4, abs=1e-12)
    assert difference([one, one]).sources[1] == difference([one]).sources[1]


@pytest.mark.slow
def test_over_datasets_it_rejects_at_most_at_its_nominal_rate_where_seeds_move_all_of_them():
    rng, repeats, found = np.random.default_rng(6), 120, []
    for _ in range(repeats):
        luck, parts = rng.normal(0, 0.3, (2, 4)), []
        for _ in range(3):
            anomalous = np.arange(60) % 2 == 0
            shared = rng.normal(size=60)
            a, b = ((1 + of[:, None]) * anomalous + shared + rng.normal(size=(4, 60)) for of in luck)
            parts.append(compare_aurocs(anomalous, a, b, np.zeros(60)))
        found.append(difference(parts).p < 0.05)
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
