import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cops_lightning.report.stats.aggregates import aggregate, profile


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter_of_all_differences():
    differences = np.array([[-100.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 900.0]])
    assert aggregate(differences, np.zeros((2, 4)), paired=True).iqm.mean == (2 + 3 + 4 + 5) / 4


def test_the_probability_of_improvement_is_that_of_mann_whitney_on_each_dataset():
    # On the first dataset A wins 3 of 4 pairs; on the second all are ties.
    a, b = np.array([[1.0, 3.0], [5.0, 5.0]]), np.array([[0.0, 2.0], [5.0, 5.0]])
    assert aggregate(a, b, paired=True).improvement.mean == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_seeds_are_drawn_for_all_datasets_at_once():
    # A seed moves all 40 datasets alike. The interval is that of the mean of five seeds, not of 200 values.
    luck = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = aggregate(np.tile(luck, (40, 1)), np.zeros((40, 5)), paired=True)
    assert found.iqm.high - found.iqm.low > 1.5


def test_a_shared_swing_of_paired_seeds_does_not_blur_a_difference():
    swing = np.array([[-0.1, -0.05, 0.0, 0.05, 0.1]] * 2)
    found = aggregate(swing + 0.01, swing, paired=True).iqm
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.01))


@pytest.mark.parametrize(("seeds_a", "seeds_b", "bounds"), [(4, 5, False), (5, 5, True), (5, 1, True), (1, 1, False)])
def test_an_interval_needs_five_seeds_of_what_varies(seeds_a, seeds_b, bounds):
    rng = np.random.default_rng(0)
    found = aggregate(rng.normal(size=(3, seeds_a)), rng.normal(size=(3, seeds_b)), paired=False)
    assert (found.iqm.low is not None) == (found.improvement.high is not None) == bounds


@given(shift=st.floats(-10, 10), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_moving_every_value_of_a_moves_the_interval_along(shift, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(3, 6))
    still, moved = (aggregate(a + x, b, paired=False).iqm for x in (0.0, shift))
    assert (moved.mean, moved.low, moved.high) == pytest.approx(
        [x + shift for x in (still.mean, still.low, still.high)]
    )


@pytest.mark.slow
def test_intervals_cover_the_true_difference_where_seeds_move_all_datasets():
    rng, repeats = np.random.default_rng(0), 120
    inside = 0
    for _ in range(repeats):
        d = 0.02 + rng.normal(0, 0.02, 10) + rng.normal(0, 0.02, (8, 10))
        found = aggregate(d, np.zeros((8, 10)), paired=True).iqm
        inside += found.low < 0.02 < found.high
    # A percentile interval over 10 seeds is a little short; drawing seeds per dataset would cover some 0.6.
    assert inside / repeats >= 0.87


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    assert profile(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.0, 2.0, 9.0])).tolist() == [1.0, 0.5, 0.0]
