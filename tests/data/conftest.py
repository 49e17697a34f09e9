from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2].parent / "shared"  # real images and file lists, for developers and CI only

MakeTree = Callable[..., Path]


@pytest.fixture
def real() -> Path:
    """The folder of real images; the test is skipped where a checkout comes without it."""
    if not (SHARED / "real").is_dir():
        pytest.skip("the real images in ../shared/real are not here")
    return SHARED / "real"


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write tiny images at the given places below a fresh folder, and return the folder."""

    def make(*places: str, root: str = "data", size: tuple[int, int] = (8, 8)) -> Path:
        folder = tmp_path / root
        for place in places:
            write_image(folder / place, size)
        return folder

    return make


def write_image(path: Path, size: tuple[int, int] = (8, 8), value: int = 255) -> None:
    """A greyscale image of one value, in the format its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], value, np.uint8)).save(path)
