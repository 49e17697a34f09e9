import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cops_lightning.report.stats import bootstrap_iqm_difference, interquartile_mean


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter():
    assert interquartile_mean(np.array([-100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0])) == (2 + 3 + 4 + 5) / 4


def test_seeds_are_drawn_within_their_dataset():
    # Datasets without spread over seeds: whatever is drawn, the summary is the same.
    a, b = [np.full(5, 0.2), np.full(5, 0.8)], [np.full(5, 0.1), np.full(5, 0.3)]
    interval = bootstrap_iqm_difference(a, b)
    assert interval.low == interval.mean == interval.high == pytest.approx((0.2 + 0.8) / 2 - (0.1 + 0.3) / 2)


def test_a_shared_swing_of_seeds_does_not_blur_a_difference_because_pairs_are_drawn_together():
    swing = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])
    a, b = [0.7 + swing, 0.5 + swing], [0.69 + swing, 0.49 + swing]
    difference = bootstrap_iqm_difference(a, b)
    assert difference.low == pytest.approx(0.01)
    assert difference.high == pytest.approx(0.01)


def test_fewer_than_three_seeds_have_no_interval():
    a = [np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2])]
    interval = bootstrap_iqm_difference(a, [np.zeros(3), np.zeros(2)])
    # Of five values the lowest and the highest are left out.
    assert interval.mean == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert interval.low is interval.high is None


def test_pairs_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="numbers of seeds differ"):
        bootstrap_iqm_difference([np.zeros(3)], [np.zeros(4)])
    with pytest.raises(ValueError, match="at least one dataset"):
        bootstrap_iqm_difference([], [])


@given(shift=st.floats(-10, 10))
def test_moving_every_value_of_a_moves_the_interval_along(shift):
    a, b = [np.array([0.1, 0.4, 0.2, 0.7]), np.array([0.5, 0.6, 0.9])], [np.zeros(4), np.zeros(3)]
    still, moved = (bootstrap_iqm_difference([s + x for s in a], b, resamples=50) for x in (0.0, shift))
    assert (moved.mean, moved.low, moved.high) == pytest.approx(
        [x + shift for x in (still.mean, still.low, still.high)]
    )


def test_intervals_cover_the_true_difference_in_about_their_share_of_simulated_studies():
    rng, repeats, levels = np.random.default_rng(0), 250, np.linspace(0.5, 0.9, 8)
    inside = 0
    for _ in range(repeats):
        a = [level + 0.02 + rng.normal(0, 0.02, 10) for level in levels]
        b = [level + rng.normal(0, 0.02, 10) for level in levels]
        interval = bootstrap_iqm_difference(a, b, resamples=400)
        inside += interval.low < 0.02 < interval.high
    # A percentile interval over 10 seeds is a little short; it must not be badly so.
    assert 0.87 <= inside / repeats <= 1
