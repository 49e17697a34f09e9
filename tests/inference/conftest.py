"""A detector that costs next to nothing, and images for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.models.baselines.pixel_statistics import Brightness
from cops_lightning.models.detector import Detector


@pytest.fixture(scope="module")
def detector(tiny_clip_state: dict[str, torch.Tensor]) -> Detector:
    """Brightness of the image and of its patches."""
    return Brightness(clip_from_state(tiny_clip_state), image_size=48)


@pytest.fixture
def photos(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Images of several sizes that have the NAMES of the test's module; that of the name BROKEN is none."""
    rng, root = np.random.default_rng(0), tmp_path / "photos"
    for place, name in enumerate(request.module.NAMES):
        pixels = rng.integers(40, 90, (20 + place, 30, 3), dtype=np.uint8)
        pixels[4:12, 5 : 8 + place] = 250
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if place % 3 else pixels + 100).save(root / name)
    (root / request.module.BROKEN).write_bytes(b"no image")
    return root
