"""A CLIP, datasets and a Trainer small enough for milliseconds, and the fixtures that give them to every test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from open_clip.model import CLIP
from PIL import Image

from cops_lightning.demo.writer import DATASETS, VERSION, write_mvtec
from cops_lightning.models.cops import CoPS
from released import released_cops

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


@pytest.fixture(scope="session")
def wordy_clip_state() -> dict[str, torch.Tensor]:
    """The same with CLIP's whole vocabulary and four layers in either tower: prompts can be spelt for it."""
    vision, text = {**TINY["vision_cfg"], "layers": 4}, {**TINY["text_cfg"], "vocab_size": 49408}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIP(**{**TINY, "vision_cfg": vision, "text_cfg": text}).state_dict()


@pytest.fixture
def tiny_model(tiny_clip_state: dict[str, torch.Tensor]) -> CoPS:
    """CoPS with fresh weights over the tiny CLIP, for images of 48 px (a 6 x 6 patch grid)."""
    return released_cops(tiny_clip_state, None, auxiliary="visa", image_size=48)


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


@pytest.fixture(scope="session")
def tiny_backbone(tiny_clip_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A node of the tiny CLIP, for images of 48 px."""
    file = tmp_path_factory.mktemp("clip") / "tiny.pt"
    torch.save(tiny_clip_state, file)
    target = "cops_lightning.clip.weights.load_backbone"
    return {
        "_target_": target,
        "name": "from_weights",
        "pretrained": "own",
        "weights": str(file),
        "image_size": 48,
        "deep_layers": 3,
    }


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in MVTec-AD's layout, to train on: bolts and nuts, four images of each label."""
    return write_dataset(tmp_path_factory.mktemp("data") / "parts", ("bolt", "nut"), seed=0)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, to test on: red and blue tiles."""
    return write_dataset(tmp_path_factory.mktemp("data") / "tiles", ("blue", "red"), seed=1)


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with fewer images of two rendered datasets than the real ones have."""
    cache = tmp_path_factory.mktemp("few")
    for name in ("procedural_auxiliary", "procedural_easy"):
        folder = cache / f"procedural-{VERSION}" / name
        write_mvtec(folder, DATASETS[name][:2], train=0, normal=2, anomalous=4, progress=False)
    return cache


def write_dataset(root: Path, categories: Sequence[str], seed: int, images: int = 4) -> Path:
    """Grey noise of 40 x 40 pixels; anomalous images have a white block, and a mask of it."""
    rng = np.random.default_rng(seed)
    for category in categories:
        for defect in ("good", "hole"):
            for number in range(images):
                pixels = rng.normal(100, 12, (40, 40, 3)).clip(0, 255).astype(np.uint8)
                if defect != "good":
                    mask = np.zeros((40, 40), np.uint8)
                    mask[5:20, 10 : 15 + number] = 255
                    pixels[mask > 0] = 255
                    save_image(mask, root / category / "ground_truth" / defect / f"{number}_mask.png")
                save_image(pixels, root / category / "test" / defect / f"{number}.png")
    return root


def save_image(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def quiet_trainer(folder: Path, **options: Any) -> Trainer:
    """Lightning's Trainer on the CPU, without what it prints and keeps by itself."""
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**quiet, **options})
