"""What many tests share: the developers' folder beside the checkout, and a CLIP small enough for milliseconds."""

from pathlib import Path

import hypothesis
import pytest
import torch
from open_clip.model import CLIP

from cops_lightning.models.cops import CoPS

# Machines are noisy: no test is judged by its time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 300, "width": 48, "heads": 1, "layers": 4},
    "quick_gelu": True,
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_clip_state() -> dict[str, torch.Tensor]:
    """An OpenAI-format state dict with random weights: width 48, 2 vision and 4 text layers, patches of 8 px."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIP(**TINY).state_dict()


@pytest.fixture
def tiny_model(tiny_clip_state: dict[str, torch.Tensor]) -> CoPS:
    """CoPS with fresh weights over the tiny CLIP, for images of 48 px (a 6 x 6 patch grid)."""
    return CoPS.from_released(tiny_clip_state, None, auxiliary="visa", image_size=48)


def losses_of(model: CoPS, images: torch.Tensor, masks: torch.Tensor | None, labels: torch.Tensor) -> dict:
    """Losses of a batch of images, under noise that is the same for every model."""
    noise = torch.randn(len(images), model.backbone.width, generator=torch.Generator().manual_seed(2))
    return model.losses(model.encode(images), masks, labels, {"noise": noise})


@pytest.fixture
def images() -> torch.Tensor:
    """Four preprocessed images of 48 px."""
    return torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def masks() -> torch.Tensor:
    """Masks of four images: none, one pixel, a block that cuts patches, and everything anomalous."""
    masks = torch.zeros(4, 48, 48)
    masks[1, 20, 20] = 1
    masks[2, 3:21, 10:30] = 1
    masks[3] = 1
    return masks


@pytest.fixture
def labels() -> torch.Tensor:
    """Labels that go with the masks."""
    return torch.tensor([0, 1, 1, 1])
