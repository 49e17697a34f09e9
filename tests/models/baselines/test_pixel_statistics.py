"""Detectors that look at pixels alone."""

import numpy as np
import pytest
import torch

from cops_lightning.clip.weights import load_backbone
from cops_lightning.data.dataset import normalise
from cops_lightning.demo.catalog import categories
from cops_lightning.demo.images import example
from cops_lightning.metrics.ranking import ranking_scores
from cops_lightning.models.baselines.pixel_statistics import Brightness, HandCrafted, odd_places, odd_share, rgb


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("packaged:mini", "own")


def stack(*images):
    return torch.stack([normalise(torch.from_numpy(image)) for image in images])


def noise(level, size=112, seed=0):
    return np.random.default_rng(seed).integers(level - 10, level + 10, (size, size, 3), dtype=np.uint8)


def test_normalising_is_undone_to_the_very_pixels():
    image = noise(100)
    assert (rgb(stack(image))[0] == image).all()


def test_the_place_of_another_colour_is_the_oddest():
    image = noise(100)
    image[40:56, 72:88] = (200, 40, 40)
    odd = odd_places(image)
    assert odd.shape == (56, 56)
    y, x = np.unravel_index(odd.argmax(), odd.shape)
    assert 18 <= y <= 30
    assert 34 <= x <= 46


def test_a_uniform_image_has_no_odd_place():
    assert odd_places(np.full((40, 40, 3), 99, np.uint8)).max() == pytest.approx(0, abs=1e-6)


def test_the_image_score_is_the_mean_of_the_oddest_two_percent():
    odd = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert odd_share(odd) == pytest.approx((98 + 99) / 2)


def test_maps_lie_on_the_patch_grid_of_the_backbone(backbone):
    image = noise(100)
    image[48:56, 80:88] = (200, 40, 40)  # the patch in row 6, column 10 of 14 x 14
    scores = HandCrafted(backbone, 112, "nearest").score(stack(noise(100), image))
    assert scores.patch.shape == (2, 196)
    assert scores.patch[1].argmax() == 6 * 14 + 10
    assert scores.image[1] > scores.image[0]
    assert ((scores.patch >= 0) & (scores.patch < 1)).all()


def test_brightness_is_the_mean_of_pixels(backbone):
    bright = np.full((112, 112, 3), 102, np.uint8)
    bright[:8, :8] = 255
    scores = Brightness(backbone, 112, "nearest").score(stack(bright))
    assert scores.image[0] == pytest.approx(bright.mean() / 255, abs=1e-6)
    assert scores.patch[0, 0] == pytest.approx(1)
    assert scores.patch[0, 1:].tolist() == pytest.approx([0.4] * 195)


@pytest.mark.slow
def test_procedural_images_do_not_give_themselves_away_by_brightness_but_by_odd_places(backbone):
    roles = [role for role in ("normal", "anomalous") for _ in range(10)]
    data = [example(c.name, role, i % 10) for c in categories("auxiliary") for i, role in enumerate(roles)]
    labels = np.array([made.anomalous for made in data])
    images = np.stack([made.image[:112, :112] for made in data])
    aurocs = {}
    for detector in (HandCrafted(backbone, 112, "nearest"), Brightness(backbone, 112, "nearest")):
        scores = detector.score(stack(*images)).image.numpy()
        aurocs[type(detector)] = ranking_scores(scores[~labels], scores[labels]).auroc
    assert aurocs[HandCrafted] > 0.55
    assert 0.4 < aurocs[Brightness] < 0.6
