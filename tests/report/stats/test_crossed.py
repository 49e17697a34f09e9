"""The rule that decides, over tables of datasets x seeds."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cops_lightning.report.stats.crossed import Estimate, Source, estimate, holm, probabilities


def table(n_datasets=8, n_seeds=5, difference=0.0, of_datasets=0.5, of_seeds=0.5, rest=0.7, seed=0):
    """Differences with known spreads of each source."""
    rng = np.random.default_rng(seed)
    return (
        difference
        + rng.normal(0, of_datasets, n_datasets)[:, None]
        + rng.normal(0, of_seeds, n_seeds)
        + rng.normal(0, rest, (n_datasets, n_seeds))
    )


def nothing(of):
    return np.zeros(len(of))


def test_on_these_datasets_it_is_the_t_test_on_the_means_of_paired_seeds():
    values = table()
    expected = stats.ttest_1samp(values.mean(axis=0), 0)
    found = estimate([values], nothing(values), "these_datasets")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_without_seeds_it_is_the_t_test_over_datasets():
    constant = table()[:, 0]
    assert estimate([], constant, "new_datasets").p == pytest.approx(stats.ttest_1samp(constant, 0).pvalue)


def test_the_error_contains_each_source_once():
    # Of a two-way table E[MS] = rest + n x source, so (MSd + MSs - MSds) / (D S) estimates all three of a mean.
    values = np.array([[3.0, 5.0, 1.0], [2.0, 9.0, 4.0], [8.0, 7.0, 0.0], [1.0, 6.0, 5.0]])
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    of_rows = 3 * np.sum((rows - values.mean()) ** 2) / 3
    of_columns = 4 * np.sum((columns - values.mean()) ** 2) / 2
    of_both = np.sum((values - rows - columns + values.mean()) ** 2) / 6
    expected = max(of_rows + of_columns - of_both, of_rows, of_columns) / 12
    assert estimate([values], nothing(values), "new_datasets").error ** 2 == pytest.approx(expected)


def test_no_source_is_estimated_away():
    # Two datasets that move in opposite directions: seeds cancel in the mean, but datasets differ.
    values = np.array([[1.0, -1.0, 2.0], [2.0, 4.0, 1.0]])
    error = estimate([values], nothing(values), "new_datasets").error
    assert error**2 >= np.var(values.mean(axis=1), ddof=1) / 2 - 1e-12


def test_quantiles_are_students_averaged_by_variance():
    found = Estimate(0.0, 1.0, (Source(3.0, 2), Source(1.0, 7)))
    assert found.quantile(0.025) == pytest.approx((3 * stats.t.isf(0.025, 2) + stats.t.isf(0.025, 7)) / 4)


@given(
    st.integers(2, 13), st.integers(2, 10), st.floats(-3, 3), st.floats(0, 2), st.integers(0, 999),
    st.sampled_from(["new_datasets", "these_datasets"]), st.floats(0.001, 0.5),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_an_interval_excludes_0_exactly_when_its_test_rejects(n, s, difference, spread, seed, scope, level):
    found = estimate([table(n, s, difference, spread, seed=seed)], np.zeros(n), scope)
    low, high = found.interval(1 - level)
    assert (not low <= 0 <= high) == (found.p < level) or found.p == pytest.approx(level)


@given(st.floats(0.1, 3), st.integers(0, 999), st.floats(0.01, 0.2))
@settings(max_examples=40, deadline=None)
def test_two_one_sided_tests_reject_exactly_when_the_interval_lies_within_the_margin(margin, seed, level):
    found = estimate([table(seed=seed, rest=0.3)], np.zeros(8), "new_datasets")
    low, high = found.interval(1 - 2 * level)
    within = -margin < low and high < margin
    p = found.p_equivalent(margin)
    assert within == (p < level) or p == pytest.approx(level)


def test_values_without_spread_are_known_exactly():
    same = np.zeros((12, 10))
    equal = estimate([same], nothing(same), "new_datasets")
    assert (equal.p, equal.interval(), equal.p_equivalent(1.0)) == (1.0, (0.0, 0.0), 0.0)
    three = estimate([same + 3], nothing(same), "new_datasets")
    assert (three.p, three.interval(), three.p_equivalent(1.0)) == (0.0, (3.0, 3.0), 1.0)


@pytest.mark.parametrize("scope", ["new_datasets", "these_datasets"])
def test_the_second_reading_agrees_where_the_data_are_clear(scope):
    for difference, place in ((-5, 0), (0, 1), (5, 2)):
        found = probabilities(
            [table(difference=difference, of_datasets=0.1, of_seeds=0.1, rest=0.1)], np.zeros(8), 1.0, scope
        )
        assert found[place] > 0.99
        assert sum(found) == pytest.approx(1)


def test_the_second_reading_doubts_what_rests_on_shared_seeds():
    # One seed of three moves all datasets by 6 points, the others by none: is 2 points more than luck?
    values = np.zeros((12, 3)) + np.array([6.0, 0.0, 0.0])
    assert probabilities([values], np.zeros(12), 1.0, "new_datasets")[2] < 0.95


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
@settings(max_examples=40)
def test_holm_is_the_closed_procedure_of_bonferronis_test(p_values):
    # A hypothesis is rejected where every family that it belongs to is, each at its own size.
    families = [of for size in range(1, len(p_values) + 1) for of in combinations(range(len(p_values)), size)]
    expected = [
        max(min(1.0, len(of) * min(p_values[member] for member in of)) for of in families if number in of)
        for number in range(len(p_values))
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_tests_that_were_not_made_are_no_part_of_a_family():
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
