import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from statsmodels.stats.multitest import multipletests

from cops_lightning.report.stats import compare_pairs, format_p, holm, mean_interval, pairs_needed
from cops_lightning.report.stats.paired import NEEDS_T, NEEDS_WILCOXON

# Student's sleep data (Cushny and Peebles, 1905): extra hours of sleep of ten patients under two drugs.
DRUG_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
DRUG_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
# Hollander and Wolfe (1973), page 29: depression scale of nine patients before and after therapy.
BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])

floats = st.floats(-1e3, 1e3)
vectors = hnp.arrays(float, st.integers(3, 12), elements=floats)


def test_the_paired_t_test_gives_the_published_figures_of_students_sleep_data():
    result = compare_pairs(DRUG_1, DRUG_2)
    assert result.t.statistic == pytest.approx(-4.0621, abs=1e-4)
    assert result.t.p == pytest.approx(0.002833, abs=1e-6)
    difference = result.difference
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-1.58, -2.4598858, -0.7001142))


def test_the_signed_rank_test_gives_the_published_p_value_of_hollander_and_wolfe():
    # They give 0.0195 for the one-sided question.
    assert compare_pairs(BEFORE, AFTER).wilcoxon.p == pytest.approx(2 * 0.01953, abs=1e-5)


def test_the_effect_size_is_the_mean_over_the_deviation_of_differences_with_hedges_factor():
    # Differences 1, 2, 3: mean 2, deviation 1, factor 1 - 3 / (4 * 2 - 1).
    assert compare_pairs(np.array([1.0, 2.0, 3.0]), np.zeros(3)).effect == pytest.approx(2 * (1 - 3 / 7))


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holms_adjustment_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holms_adjustment_of_four_tests_by_hand_leaves_out_what_was_not_tested():
    # Sorted 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before it.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([None]) == [None]


@pytest.mark.parametrize(
    ("n", "t", "wilcoxon"), [(2, False, False), (3, True, False), (5, True, False), (6, True, True)]
)
def test_a_test_without_the_pairs_it_needs_says_so_and_gives_no_p_value(n, t, wilcoxon):
    result = compare_pairs(BEFORE[:n], AFTER[:n])
    assert (result.t.p is not None, result.wilcoxon.p is not None) == (t, wilcoxon)
    if not t:
        assert str(result.t) == f"paired t: needs {NEEDS_T} seeds, has {n}"
    if not wilcoxon:
        assert result.wilcoxon.why == f"needs {NEEDS_WILCOXON} seeds, has {n}"


def test_a_difference_that_never_varies_has_no_t_test():
    result = compare_pairs(np.array([0.3, 0.4, 0.5]), np.array([0.1, 0.2, 0.3]))
    assert result.effect is None
    assert result.t.why == "the difference is the same over all 3 seeds"


def test_ties_do_not_count_towards_the_pairs_of_the_signed_rank_test():
    tied = np.append(DRUG_1[:5], [1.0, 2.0])
    result = compare_pairs(tied, np.append(DRUG_2[:4], [-0.1, 1.0, 2.0]))
    assert result.wilcoxon.why == "needs 6 seeds that differ, has 4"


def test_pairs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="got 3 and 2"):
        compare_pairs(np.zeros(3), np.zeros(2))


@given(a=vectors)
def test_swapping_a_and_b_turns_every_sign_and_keeps_every_p_value(a):
    b = a[::-1].copy()
    forth, back = compare_pairs(a, b), compare_pairs(b, a)
    assert forth.difference.mean == pytest.approx(-back.difference.mean, abs=1e-9)
    assert (forth.t.p is None) == (back.t.p is None)
    if forth.t.p is not None:
        assert forth.t.p == pytest.approx(back.t.p)
    if forth.wilcoxon.p is not None:
        assert forth.wilcoxon.p == pytest.approx(back.wilcoxon.p)


def test_one_value_has_a_mean_and_no_interval():
    assert mean_interval(np.array([0.5])) == mean_interval(np.array([0.5]), 0.5)
    assert mean_interval(np.array([0.5])).low is None
    with pytest.raises(ValueError, match="got none"):
        mean_interval(np.array([]))


def test_34_pairs_detect_half_a_deviation_at_80_percent_power_as_in_cohens_tables():
    assert pairs_needed(0.5, 1.0) == 34
    assert pairs_needed(-0.5, 1.0) == 34
    assert pairs_needed(0.0, 1.0) is None
    assert pairs_needed(1e-6, 1.0) is None
    assert pairs_needed(1.0, 0.0) == NEEDS_T


def test_as_many_pairs_as_needed_detect_the_margin_in_four_of_five_simulated_studies():
    n, rng = pairs_needed(1.0, 1.2), np.random.default_rng(0)
    found = sum(compare_pairs(rng.normal(1.0, 1.2, n), np.zeros(n)).t.p < 0.05 for _ in range(500))
    assert found / 500 == pytest.approx(0.8, abs=0.08)  # more than 4 standard errors


@pytest.mark.parametrize("n", [5, 8])
def test_under_no_difference_the_tests_reject_at_their_nominal_rate_and_intervals_cover(n):
    rng, repeats = np.random.default_rng(1), 600
    results = [compare_pairs(rng.normal(size=n), rng.normal(size=n)) for _ in range(repeats)]
    error = 4 * np.sqrt(0.05 * 0.95 / repeats)
    assert np.mean([r.t.p < 0.05 for r in results]) == pytest.approx(0.05, abs=error)
    assert np.mean([r.difference.low < 0 < r.difference.high for r in results]) == pytest.approx(0.95, abs=error)
    if n == 8:  # discrete: the attainable level below 0.05 is 10 / 256
        assert np.mean([r.wilcoxon.p < 0.05 for r in results]) == pytest.approx(10 / 256, abs=error)


def test_p_values_are_printed_with_two_digits_and_never_as_zero():
    assert [format_p(p) for p in (0.5, 0.0312, 1e-9)] == ["0.5", "0.031", "< 0.001"]
