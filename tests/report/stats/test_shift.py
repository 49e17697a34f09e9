import numpy as np
import pytest
from scipy import linalg, stats

from cops_lightning.report.stats.shift import compare_features, frechet_distance, mantel, mmd_test


def test_the_frechet_distance_is_that_of_the_matrix_square_root():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 4)), rng.normal(1, 2, size=(70, 4))
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_the_frechet_distance_of_shifted_copies_is_the_squared_shift_even_with_fewer_rows_than_columns():
    a = np.random.default_rng(0).normal(size=(5, 20))
    assert frechet_distance(a, a + 0.5) == pytest.approx(20 * 0.25)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_unbiased_mmd_by_its_definition():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(12, 3)), rng.normal(1, 1, size=(10, 3))
    both = np.concatenate([a, b])
    squared = ((both[:, None] - both) ** 2).sum(-1)
    k = np.exp(-squared / np.median(squared[np.triu_indices(22, 1)]))
    within_a = (k[:12, :12].sum() - 12) / (12 * 11)
    within_b = (k[12:, 12:].sum() - 10) / (10 * 9)
    assert mmd_test(a, b)[0] == pytest.approx(within_a + within_b - 2 * k[:12, 12:].mean())


def test_the_permutation_test_rejects_at_its_nominal_rate_under_equal_distributions_and_finds_a_shift():
    rng, repeats = np.random.default_rng(2), 300
    p = [mmd_test(rng.normal(size=(20, 3)), rng.normal(size=(25, 3)), 99, k)[1].p for k in range(repeats)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / repeats))
    assert mmd_test(rng.normal(size=(40, 3)), rng.normal(1, 1, size=(40, 3)))[1].p < 0.01


def test_few_features_give_a_distance_and_no_p_value():
    rng = np.random.default_rng(3)
    shift = compare_features(rng.normal(size=(9, 3)), rng.normal(size=(30, 3)))
    assert shift.test.why == "needs 10 features in each set, has 9"
    assert np.isfinite([shift.frechet, shift.mmd, shift.centroid_cosine]).all()


def test_lengths_of_features_do_not_matter():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(20, 3)) + 2, rng.normal(size=(20, 3)) - 1
    plain, scaled = compare_features(a, b, 50), compare_features(7 * a, 0.1 * b, 50)
    assert plain.frechet == pytest.approx(scaled.frechet)
    assert plain.mmd == pytest.approx(scaled.mmd)
    assert plain.centroid_cosine == pytest.approx(scaled.centroid_cosine)


def test_a_feature_without_direction_is_refused():
    with pytest.raises(ValueError, match="1 of 3 features are zero"):
        compare_features(np.array([[0.0, 0], [1, 0], [0, 1]]), np.eye(2))


def test_the_floor_of_the_frechet_distance_is_what_equal_distributions_give():
    rng = np.random.default_rng(6)
    a, b = (rng.normal(size=(40, 5)) + 2 for _ in range(2))
    same, shifted = compare_features(a, b, 50), compare_features(a, b - 3, 50)
    assert same.frechet == pytest.approx(same.floor, rel=0.5)
    assert shifted.frechet > 5 * shifted.floor


def test_with_one_auxiliary_dataset_mantels_test_permutes_spearmans_correlation():
    distance, performance = np.array([[1.0, 2, 3, 4, 5]]), np.array([[2.0, 1, 4, 3, 5]])
    found = mantel(distance, performance)
    assert found.statistic == pytest.approx(stats.spearmanr(distance[0], performance[0]).statistic)
    assert mantel(distance, -(distance**3)).statistic == pytest.approx(-1)
    assert mantel(distance, -(distance**3)).p == pytest.approx(2 / 120)  # of 120 orders, two are as extreme


def test_three_datasets_are_too_few_to_permute():
    found = mantel(np.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3))
    assert (found.p, found.statistic) == (None, pytest.approx(1))
    assert found.why == "needs 4 datasets that change places, has 3"


@pytest.mark.slow
@pytest.mark.parametrize("missing", [False, True])
def test_crossed_pairs_without_a_relation_are_called_related_at_most_at_the_nominal_rate(missing):
    # Auxiliaries and targets bring levels of their own, to distance and to performance: pairs are not independent.
    rng, repeats, p = np.random.default_rng(5), 200, []
    for _ in range(repeats):
        distance, performance = (
            rng.normal(0, 2, (4, 1)) + rng.normal(0, 2, 6) + rng.normal(0, 1, (4, 6)) for _ in range(2)
        )
        if missing:  # a dataset is no target of itself
            performance[np.arange(4), np.arange(4)] = np.nan
        p.append(mantel(distance, performance).p)
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
