import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2].parent / "shared"  # real images and file lists, for developers and CI only
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "tiff": "TIFF"}

MakeTree = Callable[..., Path]


@pytest.fixture
def real() -> Path:
    """The folder of real images; the test is skipped where a checkout comes without it."""
    if not (SHARED / "real").is_dir():
        pytest.skip("the real images in ../shared/real are not here")
    return SHARED / "real"


@pytest.fixture
def listing() -> Path:
    """The folder of file lists; the test is skipped where a checkout comes without it."""
    if not (SHARED / "datasets" / "listing").is_dir():
        pytest.skip("the file lists in ../shared/datasets are not here")
    return SHARED / "datasets" / "listing"


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Write files at the given places below a fresh folder, tiny images where they end like one; return the folder."""

    def make(*places: str, root: str = "data") -> Path:
        for place in places:
            write(tmp_path / root / place)
        return tmp_path / root

    return make


def write(path: Path) -> None:
    """A tiny white image in the format that the suffix names, or an empty file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny(path.suffix[1:].lower()))


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """An image of these pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@functools.cache
def tiny(suffix: str) -> bytes:
    """A white grey image of 4 x 4 pixels, as bytes of a file; nothing where the suffix is that of no image."""
    if suffix not in {"png", "bmp", *FORMATS}:
        return b""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 255).save(buffer, FORMATS.get(suffix, suffix))
    return buffer.getvalue()
