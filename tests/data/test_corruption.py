"""Corrupted test images: each strength is worse than the one before, and what is random depends on the image alone."""

import numpy as np
import pytest
import torch

from cops_lightning.core.errors import ConfigError
from cops_lightning.core.types import CLIP_STD
from cops_lightning.data.corruption import LEVELS, Corruption
from cops_lightning.data.datamodules import Folder

from .conftest import write_image

SIDE = 224


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth stripes of mid grey, far from both ends of the scale."""
    ramp = 100 + 20 * np.sin(np.arange(SIDE) / 5)
    return np.repeat(np.tile(ramp, (SIDE, 1))[..., None], 3, axis=2).astype(np.uint8)


def difference(kind: str, strength: int, picture: np.ndarray) -> float:
    return float(np.abs(Corruption(kind, strength)(picture).astype(float) - picture).mean())


@pytest.mark.parametrize("kind", LEVELS)
def test_images_keep_shape_and_type_and_each_strength_is_worse(kind, picture):
    corrupted = Corruption(kind, 1)(picture)
    assert (corrupted.shape, corrupted.dtype) == (picture.shape, picture.dtype)
    differences = [difference(kind, strength, picture) for strength in range(1, 6)]
    assert differences == sorted(differences)
    assert differences[0] > 0


def test_brightness_adds_its_share_of_full_scale(picture):
    brighter = Corruption("brightness", 1)(picture).astype(float) - picture
    np.testing.assert_allclose(brighter, 0.1 * 255, atol=1)


def test_noise_has_the_standard_deviation_of_its_strength(picture):
    noise = (Corruption("noise", 1)(picture).astype(float) - picture) / 255
    assert noise.std() == pytest.approx(0.08, rel=0.03)


def test_blur_scales_with_the_image(picture):
    # A Gaussian of s px leaves exp(-(s / p)^2 / 2) of a sine whose period is 2 pi p; a flat border is lost to the edge.
    amplitude = np.ptp(Corruption("blur", 2)(picture)[:, 30:-30].astype(float)) / 2
    assert amplitude == pytest.approx(20 * np.exp(-((2 / 5) ** 2) / 2), abs=1)
    half = Corruption("blur", 2)(picture[:112, :112])[:, 15:-15].astype(float)
    assert np.ptp(half) / 2 == pytest.approx(20 * np.exp(-((1 / 5) ** 2) / 2), abs=1)


def test_noise_is_a_function_of_seed_and_image(picture):
    once, again = (Corruption("noise", 3, seed=1)(picture) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert (Corruption("noise", 3, seed=2)(picture) != once).any()
    other = picture.copy()
    other[0, 0] += 1
    noise, others = (Corruption("noise", 3, seed=1)(one).astype(int) - one for one in (picture, other))
    assert (noise[1:] != others[1:]).any()


@pytest.mark.parametrize("strength", [0, 6])
def test_a_strength_that_does_not_exist_is_refused(strength):
    with pytest.raises(ConfigError, match="expected a whole number from 1 to 5"):
        Corruption("noise", strength)


def test_targets_are_corrupted_and_the_images_to_train_on_are_not(tmp_path):
    grey = np.full((64, 64, 3), 100, np.uint8)
    for folder in ("good", "bad"):
        write_image(tmp_path / "part" / "test" / folder / "0.png", grey)
    write_image(tmp_path / "part" / "ground_truth" / "bad" / "0_mask.png", np.full((64, 64), 255, np.uint8))
    data = Folder(tmp_path, image_size=64, corruption=Corruption("brightness", 5))
    trained, tested = next(iter(data.train_dataloader())), next(iter(data.test_dataloader()[0]))
    # Half of full scale more, over the standard deviation of each of CLIP's channels.
    added = (tested.images - trained.images).amax(dim=(0, 2, 3)) * torch.tensor(CLIP_STD)
    np.testing.assert_allclose(added, 0.5, atol=0.01)
    assert sorted(tested.masks.amax(dim=(1, 2)).tolist()) == [0, 1]
