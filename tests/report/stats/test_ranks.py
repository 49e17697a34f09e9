import numpy as np
import pytest
from scipy import stats

from cops_lightning.report.stats.ranks import compare_ranks, critical_difference

# Demsar (2006), table 6: AUC of four variants of C4.5 on 14 datasets. On the last but one he ranks two equal printed
# values 2 and 3; a further digit stands for what he saw.
C45 = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def test_mean_ranks_and_critical_difference_are_those_of_demsars_example():
    result = compare_ranks(C45)
    assert result.mean_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert result.critical_difference == pytest.approx(1.25, abs=5e-3)
    # He gives 9.28. Scipy corrects it for ties: one of all four methods and three of two, of t^3 - t each.
    assert result.friedman.statistic == pytest.approx(9.28 / (1 - (60 + 3 * 6) / (14 * 60)), abs=0.02)
    assert result.friedman.p < 0.05


def test_iman_and_davenports_f_follows_from_friedmans_statistic():
    # Demsar: F = (N - 1) chi2 / (N (k - 1) - chi2), with k - 1 and (k - 1)(N - 1) degrees of freedom.
    result = compare_ranks(C45)
    f = 13 * result.friedman.statistic / (14 * 3 - result.friedman.statistic)
    assert result.iman_davenport.statistic == pytest.approx(f)
    assert result.iman_davenport.p == pytest.approx(stats.f.sf(f, 3, 39))
    assert result.iman_davenport.p < result.friedman.p


def test_critical_values_are_those_of_demsars_table_5():
    for k, q in ((2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)):
        assert critical_difference(k, 1) / np.sqrt(k * (k + 1) / 6) == pytest.approx(q, abs=1e-3)


def test_a_pair_is_significant_exactly_where_its_ranks_are_further_apart_than_the_critical_difference():
    result = compare_ranks(C45 + np.array([0.05, 0, 0, 0]))
    gaps = np.abs(result.mean_ranks[:, None] - result.mean_ranks)
    np.testing.assert_array_equal(result.nemenyi < 0.05, gaps > result.critical_difference)
    assert (result.nemenyi < 0.05).any()


def test_too_few_datasets_give_ranks_and_no_p_value():
    result = compare_ranks(C45[:5])
    assert str(result.friedman) == "Friedman: needs 6 datasets, has 5"
    assert result.critical_difference is None
    assert result.mean_ranks.sum() == pytest.approx(10)


def test_methods_that_are_equal_everywhere_are_said_to_be():
    assert compare_ranks(np.full((6, 3), 0.5)).friedman.why == "the methods are equal on every dataset"


def test_two_methods_are_compared_by_pairs_instead():
    with pytest.raises(ValueError, match="at least 3 methods, got 2"):
        compare_ranks(C45[:, :2])


@pytest.mark.slow
def test_under_no_difference_friedmans_test_rejects_at_most_at_its_nominal_rate():
    rng, repeats = np.random.default_rng(0), 300
    p = [compare_ranks(rng.normal(size=(13, 4))).friedman.p for _ in range(repeats)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / repeats))
