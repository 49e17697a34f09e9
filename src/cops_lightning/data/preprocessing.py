"""From one image to what CLIP sees, for use outside a dataset."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from cops_lightning.core.errors import ConfigError
from cops_lightning.data.dataset import normalise
from cops_lightning.data.readers.images import read_image

Source = str | Path | Image.Image | UInt8[np.ndarray, "h w 3"]


def preprocess(image: Source, size: int) -> Float[Tensor, "3 s s"]:
    """An image, read from a path, or as a PIL image or RGB array of values from 0 to 255, as datasets preprocess it.

    It is resized to (size, size) whatever its aspect, bicubic with antialiasing, and normalised with CLIP's mean and
    standard deviation. Raises ConfigError for arrays of another type or shape, and ReadingError for unreadable files.
    """
    if isinstance(image, str | Path):
        shown = read_image(Path(image))
    elif isinstance(image, Image.Image):
        shown = image.convert("RGB")
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        shown = Image.fromarray(image)
    else:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ConfigError(f"An image came as {found}; expected a path, a PIL image, or a uint8 array (h, w, 3) of RGB.")
    pixels = np.array(shown.resize((size, size), Image.Resampling.BICUBIC))
    return normalise(torch.from_numpy(pixels))
