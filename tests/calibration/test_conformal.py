"""Thresholds and p-values: what follows from the definition, and that the rate is kept where it can be counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import precision_recall_curve

from calibration.made import calibration_of
from cops_lightning.calibration import needed, select
from cops_lightning.calibration.conformal import false_alarms, p_values, proportion_interval, q_values, threshold
from cops_lightning.calibration.labelled import Labelled, Weighing, below

# Eighths, so that ties are common.
SCORES = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=40)
LEVELS = st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.3, 0.5]) | st.floats(0.001, 0.9)


@settings(max_examples=60)
@given(SCORES, LEVELS, SCORES)
def test_a_p_value_is_at_most_the_level_exactly_above_the_threshold_and_falls_as_scores_rise(scores, level, further):
    made = calibration_of(scores, level)
    found = [made.p_value(score) for score in sorted(further)]
    assert found == sorted(found, reverse=True)
    for score in further:
        assert made.p_value(score) == (1 + sum(known >= score for known in scores)) / (len(scores) + 1), (
            "the definition"
        )
        anomalous = made.threshold is not None and score > made.threshold
        assert anomalous == (made.p_value(score) <= level)
    assert made.region_p_value(0.5) == made.p_value(0.5), "the maps' peaks are the scores here"
    assert (made.threshold is None) == (len(scores) < made.needed) == (made.shortage is not None)


@settings(max_examples=30)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(scores, random):
    mixed = random.sample(scores, len(scores))
    assert calibration_of(mixed, names=None) == calibration_of(scores, names=None)


@pytest.mark.parametrize(("level", "images"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.5, 1), (0.07, 14), (0.001, 999)])
def test_the_fewest_images_for_a_level_are_said_and_no_threshold_is_set_with_fewer(level, images):
    assert needed(level) == images
    scores = list(np.linspace(1, 0, images))
    assert calibration_of(scores, level).threshold == 1.0, "only the highest may be exceeded"
    if images > 1:
        few = calibration_of(scores[1:], level)
        assert few.threshold is few.map_threshold is None
        assert f"needs {images}. No threshold is set." in few.shortage
        assert few.p_value(2.0) == 1 / images > level


@pytest.mark.parametrize("n", [19, 50, 200])
@pytest.mark.parametrize("ties", [False, True])
def test_over_2000_deployments_the_mean_false_alarm_rate_is_at_most_the_level(n, ties):
    rng, level = np.random.default_rng(n), 0.05
    drawn = rng.gamma(2.0, size=(2000, n))  # every deployment calibrates once
    cuts = np.array([threshold(np.sort(scores.round() if ties else scores), level) for scores in drawn])
    rates = stats.gamma(2.0).sf(cuts + 0.5 * ties)  # of all normal images to come; rounded ones are integers
    error = 2.58 * np.std(rates) / np.sqrt(len(rates))
    mean, low, high = false_alarms(n, level)
    assert np.mean(rates) <= level + error
    if ties:
        assert np.mean(rates) < mean
    else:
        assert np.mean(rates) == pytest.approx(mean, abs=error)
        assert np.mean((low <= rates) & (rates <= high)) == pytest.approx(0.95, abs=2.58 * 0.0049)


def test_without_a_calibration_a_threshold_that_fits_its_own_images_would_not_keep_the_rate():
    # So the test above can fail: the 95th percentile of 19 scores is exceeded by more than 5 %.
    rng = np.random.default_rng(0)
    drawn = rng.gamma(2.0, size=(2000, 19 + 500))
    cuts = np.quantile(drawn[:, :19], 0.95, axis=1)
    assert (drawn[:, 19:] > cuts[:, None]).mean() > 0.055


def test_a_folder_is_judged_as_the_procedure_of_benjamini_and_hochberg_says():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        ordered = np.sort(rng.normal(size=400))
        p = p_values(ordered, np.concatenate([rng.normal(size=80), rng.normal(4, 1, size=20)]))
        chosen = select(p, 0.1)
        ranks = np.arange(1, len(p) + 1) * 0.1 / len(p)  # written as Benjamini and Hochberg do
        below_line = np.flatnonzero(np.sort(p) <= ranks + 1e-12)
        cut = np.sort(p)[below_line[-1]] if len(below_line) else -1
        assert (chosen == (p <= cut)).all()
        shares.append(chosen[:80].sum() / max(1, chosen.sum()))
        assert chosen.sum() > 5 or cut < 0
    assert np.mean(shares) <= 0.1 + 2.58 * np.std(shares) / np.sqrt(len(shares))
    assert select(np.array([]), 0.1).tolist() == []


@settings(max_examples=60)
@given(st.lists(st.integers(1, 12).map(lambda twelfths: twelfths / 12), min_size=1, max_size=40), LEVELS)
def test_q_values_are_the_adjusted_p_values_of_scipy_and_need_no_more_than_how_often_each_p_value_came(p, level):
    distinct, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    adjusted = stats.false_discovery_control(p, method="bh")
    assert q_values(distinct, counts)[place] == pytest.approx(adjusted, rel=1e-12)
    assert (select(p, level) == (adjusted <= level * (1 + 1e-12))).all()


def labelled(seed: int, normal: int = 60, anomalous: int = 40, **weighing) -> Labelled:
    rng = np.random.default_rng(seed)
    of = (np.sort(rng.normal(size=normal)), np.sort(rng.normal(2, 1, size=anomalous)))
    return Labelled(*(scores.astype(np.float32).astype(float) for scores in of), Weighing(**weighing))


def test_the_best_f1_is_that_of_scikit_learn_and_the_least_cost_that_of_every_threshold_tried():
    for seed in range(5):
        of = labelled(seed, false_alarm=2.0, miss=3.0)
        scores, truth = np.concatenate([of.normal, of.anomalous]), np.repeat([0, 1], [60, 40])
        precision, recall, _ = precision_recall_curve(truth, scores)
        found = of.chosen("f1")
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert found.value == pytest.approx(best)
        called = scores > found.threshold
        assert 2 * (called & (truth == 1)).sum() / (called.sum() + 40) == pytest.approx(best)
        assert (found.recall, found.false_alarms) == (called[60:].mean(), called[:60].mean())
        assert found.value_interval[0] <= best <= found.value_interval[1]

        tried = [below(scores.min()), *scores]
        costs = [2 * (of.normal > t).sum() + 3 * (of.anomalous <= t).sum() for t in tried]
        assert of.chosen("cost").value == pytest.approx(min(costs) / 100)


def test_a_rarer_anomaly_in_use_than_among_the_images_raises_the_threshold():
    few, many = (labelled(0, anomalous_share=share).chosen("cost") for share in (0.001, 0.5))
    assert few.threshold > many.threshold


def test_the_threshold_for_a_recall_keeps_it_on_average_and_its_interval_covers_it():
    truth, recalls, inside, between = stats.norm(2, 1), [], [], []
    for seed in range(600):
        of = labelled(seed, normal=5, recall=0.9)
        found = of.chosen("recall")
        recalls.append(truth.sf(found.threshold))
        inside.append(found.value_interval[0] <= recalls[-1] <= found.value_interval[1])
        between.append(found.threshold_interval[0] <= truth.ppf(0.1) <= found.threshold_interval[1])
    assert np.mean(recalls) >= 0.9 - 2.58 * np.std(recalls) / np.sqrt(600)
    assert np.mean(inside) >= 0.95 - 2.58 * 0.009
    assert np.mean(between) >= 0.95 - 2.58 * 0.009
    assert proportion_interval(38, 40) == pytest.approx((0.8308, 0.9939), abs=1e-4), "of Clopper and Pearson's tables"


def test_too_few_anomalous_images_for_a_recall_are_said():
    few = calibration_of(list(np.linspace(0, 0.5, 19)), anomalous=[0.8] * 5, use="recall")
    assert few.threshold is None
    assert "5 anomalous images are too few for a recall of 95 %: it needs 19" in few.shortage
    assert calibration_of([0.1, 0.2] * 10, anomalous=[0.8] * 19, use="recall").threshold == below(0.8)
