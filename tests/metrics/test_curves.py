"""Curves that are drawn: a few points of those that scikit-learn computes in full."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from cops_lightning.metrics.curves import image_curves, pixel_curves
from cops_lightning.metrics.pixels import pack_masks
from cops_lightning.metrics.suite import MetricSuite

# Few distinct values, so that ties are frequent.
SCORES = st.lists(st.sampled_from([k / 16 for k in range(17)]), min_size=1, max_size=60).map(np.array)


def as_set(x: np.ndarray, y: np.ndarray) -> set[tuple[float, float]]:
    return set(zip(x.round(12).tolist(), y.round(12).tolist(), strict=True))


# Two points of the precision-recall curve lie closer together than points that are evenly spaced along it.
@example(normal=np.array([1 / 16, *12 * [2 / 16]]), anomalous=np.array([0, 3 / 16]))
@given(normal=SCORES, anomalous=SCORES)
def test_points_are_those_of_scikit_learn(normal, anomalous):
    labels, scores = np.repeat([0, 1], [normal.size, anomalous.size]), np.concatenate([normal, anomalous])
    curves = image_curves(normal, anomalous)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert as_set(curves.false_positive_rate, curves.true_positive_rate) == as_set(false, true)
    assert as_set(curves.recall, curves.precision) == as_set(recall[:-1], precision[:-1])  # less its added (0, 1)


@given(points=st.integers(2, 50), size=st.integers(2, 400))
def test_a_thinned_curve_keeps_its_ends_and_has_no_more_points_than_asked_for(points, size):
    rng = np.random.default_rng(size)
    normal, anomalous = rng.random(size), rng.random(size) + 0.3
    whole, thinned = image_curves(normal, anomalous, points=10 * size), image_curves(normal, anomalous, points)
    for x, y in (("false_positive_rate", "true_positive_rate"), ("recall", "precision")):
        assert getattr(thinned, x).size <= points
        assert as_set(getattr(thinned, x), getattr(thinned, y)) <= as_set(getattr(whole, x), getattr(whole, y))
        assert [getattr(thinned, y)[end] for end in (0, -1)] == [getattr(whole, y)[end] for end in (0, -1)]


def test_the_area_of_the_thinned_roc_is_the_auroc_to_a_quarter_of_a_percent():
    # Between kept points the curve strays over at most half of dx * dy, and dx + dy is 2 / 199 at most: 199 such
    # triangles hold 199 * (1 / 199)**2 / 2 = 0.0025.
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(size=5000), rng.normal(1, size=3000)
    curves = image_curves(normal, anomalous, points=200)
    labels = np.repeat([0, 1], [5000, 3000])
    exact = roc_auc_score(labels, np.concatenate([normal, anomalous]))
    assert auc(curves.false_positive_rate, curves.true_positive_rate) == pytest.approx(exact, abs=0.0025)


@pytest.mark.parametrize("empty", [0, 1])
def test_without_normal_or_without_anomalous_items_there_is_no_curve(empty):
    scores = [np.array([0.5]), np.array([0.25])]
    scores[empty] = np.array([])
    assert image_curves(*scores) is None


def enlarge(patches: torch.Tensor) -> torch.Tensor:
    """Maps of 8 x 8 pixels from 16 patches."""
    return patches.view(-1, 4, 4).repeat_interleave(2, 1).repeat_interleave(2, 2)


def test_pixel_curves_are_those_of_all_pixels_together():
    # Eighths lie on the edges of bins, so no two scores share one and every point of the exact curve is there.
    patches = torch.randint(0, 9, (5, 16)) / 8
    masks = torch.rand(5, 8, 8) < 0.3
    curves = pixel_curves(patches, pack_masks(masks.numpy()), enlarge)
    labels, scores = masks.flatten().numpy(), enlarge(patches).flatten().numpy()
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert as_set(curves.false_positive_rate, curves.true_positive_rate) == as_set(false, true)
    assert as_set(curves.recall, curves.precision) == as_set(recall[:-1], precision[:-1])


def test_masks_without_an_anomalous_pixel_define_no_pixel_curve():
    masks = np.zeros((2, 8, 8), dtype=bool)
    assert pixel_curves(torch.rand(2, 16), pack_masks(masks), enlarge) is None


def test_a_suite_gives_the_curves_of_each_category_that_defines_them():
    suite = MetricSuite("target", enlarge)
    masks = torch.zeros(4, 8, 8)
    masks[1:3, :2] = 1
    labels, categories = torch.tensor([0, 1, 1, 1]), ["a", "a", "b", "b"]
    suite.update(torch.rand(4), torch.rand(4, 16), masks, labels, categories)
    # Category b has no normal image, hence no curves of images.
    assert [(c.category, c.level) for c in suite.curves()] == [("a", "image"), ("a", "pixel"), ("b", "pixel")]
