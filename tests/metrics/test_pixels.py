import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cops_lightning.metrics.pixels import PixelScores, order_keys, pack_masks, pixel_scores

SIDE = 6


def as_they_are(patches):
    """Maps whose pixels are the patches."""
    side = round(patches.shape[1] ** 0.5)
    return patches.view(-1, side, side)


def evaluate(maps: np.ndarray, masks: np.ndarray, **options) -> PixelScores | None:
    patches = torch.from_numpy(maps.astype(np.float32)).flatten(1)
    return pixel_scores(patches, pack_masks(masks), as_they_are, **options)


def aupro_by_definition(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """One point (FPR, PRO) per threshold, counted afresh; the area under the polyline, cut at the limit."""
    regions = [
        (image, labels == label)
        for image, (labels, n) in enumerate(ndimage.label(mask, np.ones((3, 3))) for mask in masks)
        for label in range(1, n + 1)
    ]
    fpr, pro = [0.0], [0.0]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        reported = maps >= threshold
        fpr.append(reported[~masks].mean())
        pro.append(np.mean([reported[image][region].mean() for image, region in regions]))
    inside = [(x, y) for x, y in zip(fpr, pro, strict=True) if x < limit]
    x, y = zip(*inside, (limit, np.interp(limit, *first_of_each_x(fpr, pro, limit))), strict=True)
    return np.trapezoid(y, x) / limit


def first_of_each_x(fpr: list[float], pro: list[float], limit: float) -> tuple[list[float], list[float]]:
    """The two points around the limit, which is all that interpolation needs: where PRO jumps, its lower end."""
    after = next(i for i, x in enumerate(fpr) if x >= limit)
    return fpr[after - 1 : after + 1], pro[after - 1 : after + 1]


def reference(maps: np.ndarray, masks: np.ndarray) -> PixelScores:
    scores, labels = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0).max()
    area = aupro_by_definition(maps, masks)
    return PixelScores(roc_auc_score(labels, scores), average_precision_score(labels, scores), f1, area)


@st.composite
def evaluations(draw):
    """A few small maps with many ties, and masks with at least one normal and one anomalous pixel."""
    shape = (draw(st.integers(1, 4)), SIDE, SIDE)
    levels = st.integers(-4, draw(st.integers(-4, 12))).map(lambda level: level / 8)
    maps = draw(arrays(np.float32, shape, elements=levels))
    masks = draw(arrays(bool, shape))
    masks[0, 0, 0], masks[0, -1, -1] = True, False
    return maps, masks


@pytest.mark.slow
@given(evaluations(), st.integers(1, 200))
@settings(deadline=None, max_examples=150)
def test_metrics_equal_their_definitions_whatever_the_budget(evaluation, budget):
    maps, masks = evaluation
    assert evaluate(maps, masks, budget=budget) == pytest.approx(reference(maps, masks), abs=1e-9)


@pytest.mark.slow
@given(evaluations(), st.integers(1, 200), st.randoms())
@settings(deadline=None, max_examples=50)
def test_order_of_images_and_increasing_transforms_change_nothing(evaluation, budget, random):
    maps, masks = evaluation
    order = random.sample(range(len(maps)), len(maps))
    expected = evaluate(maps, masks)
    assert evaluate(maps[order], masks[order], budget=budget) == pytest.approx(expected, abs=1e-12)
    assert evaluate(np.exp(maps) - 1, masks, budget=budget) == pytest.approx(expected, abs=1e-12)


def test_smooth_maps_without_ties_agree_too():
    rng = np.random.default_rng(0)
    maps = ndimage.gaussian_filter(rng.random((4, 30, 30), dtype=np.float32), (0, 3, 3))
    masks = ndimage.gaussian_filter(rng.random((4, 30, 30)), (0, 3, 3)) > 0.54
    maps += 0.05 * masks
    assert len(np.unique(maps)) > 3500
    for budget in (10**6, 300):
        assert evaluate(maps, masks, budget=budget) == pytest.approx(reference(maps, masks), abs=1e-9)


def test_a_constant_map_larger_than_the_budget_is_one_threshold():
    maps, masks = np.full((3, SIDE, SIDE), 0.5), np.zeros((3, SIDE, SIDE), dtype=bool)
    masks[:, :3] = True
    # One step from (0, 0) to (1, 1): AUROC one half, precision one half; PRO = FPR up to 0.3.
    assert evaluate(maps, masks, budget=4) == pytest.approx((0.5, 0.5, 2 / 3, 0.15))


def test_found_defects_without_false_alarms_score_one():
    masks = np.zeros((2, SIDE, SIDE), dtype=bool)
    masks[0, 1:3, 1:3] = masks[1, 4, 4] = True
    assert evaluate(masks.astype(float), masks) == pytest.approx((1, 1, 1, 1))


def test_a_small_defect_weighs_as_much_as_a_large_one_in_aupro_alone():
    masks = np.zeros((1, SIDE, SIDE), dtype=bool)
    masks[0, :3] = True  # 18 pixels, found
    masks[0, 5, 5] = True  # 1 pixel, missed: below every normal pixel
    maps = np.where(masks, 1.0, 0.5)
    maps[0, 5, 5] = 0.0
    scores = evaluate(maps, masks)
    assert scores.aupro == pytest.approx(0.5 + 0.5 * 0 + 0)  # flat at one of two regions until FPR 1
    assert scores.auroc == pytest.approx(18 / 19)


@pytest.mark.parametrize("anomalous", [False, True])
def test_pixels_of_one_kind_define_no_metric(anomalous):
    assert evaluate(np.zeros((2, SIDE, SIDE)), np.full((2, SIDE, SIDE), anomalous)) is None


def test_no_images_define_no_metric():
    assert evaluate(np.zeros((0, SIDE, SIDE)), np.zeros((0, SIDE, SIDE), dtype=bool)) is None


@given(arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_keys_order_as_the_scores_do(scores):
    keys = order_keys(scores).astype(np.int64)
    assert np.array_equal(np.sign(np.subtract.outer(keys, keys)), np.sign(compare(scores)))


def compare(scores: np.ndarray) -> np.ndarray:
    return (scores[:, None] > scores).astype(int) - (scores[:, None] < scores)


def test_zero_and_minus_zero_are_tied():
    zeros = order_keys(np.array([0.0, -0.0], dtype=np.float32))
    assert zeros[0] == zeros[1]


def test_each_map_is_expanded_alone_and_at_most_twice_when_the_anomalous_pixels_fit():
    seen = []

    def expand(patches):
        seen.append(patches.shape)
        return as_they_are(patches)

    maps, masks = torch.rand(5, SIDE * SIDE), np.zeros((5, SIDE, SIDE), dtype=bool)
    masks[1, 2, 2] = True
    pixel_scores(maps, pack_masks(masks), expand)
    assert seen == [(1, SIDE * SIDE)] * (1 + 1 + 5)  # for the size, the anomalous one, all


@pytest.mark.slow
def test_memory_depends_on_the_budget_not_on_the_number_of_images():
    def expand(patches):
        noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(int(1e6 * patches[0, 0])))
        return noise[None]

    def peak(n_images: int) -> int:
        masks = np.zeros((1, 64, 64), dtype=bool)
        masks[:, 16:48, 16:48] = True
        packed = np.repeat(pack_masks(masks), n_images, axis=0)
        patches = torch.rand(n_images, 1)
        tracemalloc.start()
        pixel_scores(patches, packed, expand, budget=2**12)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(32) < 1.3 * peak(8)


def test_progress_rises_to_one():
    told = []
    maps, masks = np.random.default_rng(0).random((4, SIDE, SIDE)), np.zeros((4, SIDE, SIDE), dtype=bool)
    masks[:2, 1:4, 1:4] = True
    evaluate(maps, masks, budget=5, tick=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


def test_maps_and_masks_of_different_sides_are_refused():
    with pytest.raises(ValueError, match=r"gives 6 x 6 pixels, but a packed mask has 7 bytes"):
        pixel_scores(torch.rand(1, 36), pack_masks(np.zeros((1, 7, 7), dtype=bool)), as_they_are)


def test_a_map_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="map of image 0 is not finite"):
        pixel_scores(torch.rand(1, 4), pack_masks(np.eye(2, dtype=bool)[None]), lambda p: as_they_are(p / 0))
