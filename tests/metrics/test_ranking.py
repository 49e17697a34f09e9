import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cops_lightning.metrics.ranking import RankingAccumulator, RankingScores, ranking_scores


def reference(normal: np.ndarray, anomalous: np.ndarray) -> RankingScores:
    """The same metrics by scikit-learn."""
    labels = np.repeat([0, 1], [normal.size, anomalous.size])
    scores = np.concatenate([normal, anomalous])
    precision, recall, _ = precision_recall_curve(labels, scores)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return RankingScores(roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max())


def scores_with_ties(max_size: int = 30):
    return arrays(np.float32, st.integers(1, max_size), elements=st.integers(-3, 3).map(lambda n: n / 4))


def test_a_ranking_by_hand():
    # Descending: a 0.9 | n 0.5, a 0.5 (tied) | n 0.1. Of the 2 x 2 pairs, 0.9 wins two, 0.5 wins one and ties one.
    scores = ranking_scores(normal=np.array([0.5, 0.1]), anomalous=np.array([0.9, 0.5]))
    assert scores is not None
    assert scores.auroc == (2 + 1 + 0.5) / 4
    # Recall gains 1/2 at precision 1 and 1/2 at precision 2/3; F1 there is 2/3 and 4/5.
    assert scores.ap == pytest.approx(1 / 2 + 1 / 3)
    assert scores.f1_max == pytest.approx(4 / 5)


def test_perfect_separation_scores_one_throughout():
    assert ranking_scores(np.array([0.1, 0.2]), np.array([0.3])) == (1, 1, 1)


def test_constant_scores_leave_auroc_at_chance_and_precision_at_the_share_of_anomalies():
    scores = ranking_scores(np.full(3, 0.5), np.full(1, 0.5))
    assert scores == (0.5, 0.25, 2 * 1 / (2 * 1 + 3))


@given(normal=scores_with_ties(), anomalous=scores_with_ties())
def test_metrics_equal_those_of_scikit_learn_under_ties(normal, anomalous):
    assert ranking_scores(normal, anomalous) == pytest.approx(reference(normal, anomalous), abs=1e-12)


@given(normal=scores_with_ties(), anomalous=scores_with_ties())
def test_a_strictly_increasing_transform_changes_nothing(normal, anomalous):
    assert ranking_scores(np.exp(3 * normal), np.exp(3 * anomalous)) == ranking_scores(normal, anomalous)


@given(normal=scores_with_ties(), anomalous=scores_with_ties())
def test_reversing_the_ranking_mirrors_auroc(normal, anomalous):
    forward, backward = ranking_scores(normal, anomalous), ranking_scores(-normal, -anomalous)
    assert forward.auroc + backward.auroc == pytest.approx(1)


@given(normal=scores_with_ties(), anomalous=scores_with_ties(), cut=st.integers(0, 7))
def test_the_accumulator_may_be_fed_in_pieces(normal, anomalous, cut):
    scores, hits = np.unique(anomalous, return_counts=True)
    scores, hits = scores[::-1], hits[::-1]
    above = (normal > scores[:, None]).sum(1)
    reached = (normal >= scores[:, None]).sum(1)
    pieces = RankingAccumulator(normal.size, anomalous.size)
    for piece in (slice(None, cut), slice(cut, None)):
        pieces.extend(above[piece], reached[piece], hits[piece])
    assert pieces.result() == pytest.approx(ranking_scores(normal, anomalous), abs=1e-12)


def test_one_kind_alone_is_no_ranking():
    nothing, something = np.empty(0), np.array([0.3])
    assert ranking_scores(nothing, something) is None
    assert ranking_scores(something, nothing) is None
    with pytest.raises(ValueError, match=r"needs normal and anomalous items, got 0 and 4"):
        RankingAccumulator(0, 4)


def test_a_result_is_refused_before_all_anomalous_items_are_ranked():
    accumulator = RankingAccumulator(1, 2)
    accumulator.extend(np.array([0]), np.array([0]), np.array([1]))
    with pytest.raises(ValueError, match="Only 1 of 2 anomalous items"):
        accumulator.result()
