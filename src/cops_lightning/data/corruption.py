"""Test images made worse on purpose: how much of a score survives noise, blur, another exposure or JPEG."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xxhash

from cops_lightning.core.choices import require_choice
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.seeding import named_generator
from cops_lightning.data.augmentation import composed, library
from cops_lightning.data.readers.images import Pixels

Kind = Literal["noise", "blur", "brightness", "jpeg"]
# The five strengths of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261), chosen for images of 224 px.
LEVELS: dict[Kind, tuple[float, ...]] = {
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, in shares of full scale
    "blur": (1, 2, 3, 4, 6),  # standard deviation of the Gaussian, in px of an image of 224 px
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added, in shares of full scale
    "jpeg": (25, 18, 15, 10, 7),  # quality, in [1, 100]
}
REFERENCE_SIDE = 224


@dataclass(frozen=True)
class Corruption:
    """Noise, blur, brightness or JPEG compression at a strength from 1 to 5.

    What is drawn at random is a function of (seed, pixels of the image). Raises ConfigError for another kind or
    strength.

    Args:
        kind: what is done.
        strength: how much, from 1 to 5.
        seed: of what is drawn.
    """

    kind: Kind
    strength: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("corruption.kind", self.kind, Kind)
        if self.strength not in range(1, len(LEVELS[self.kind]) + 1):
            raise ConfigError(
                f"corruption.strength is {self.strength}; expected a whole number from 1 to {len(LEVELS[self.kind])}."
            )

    def __call__(self, image: Pixels) -> Pixels:
        """The corrupted image, uint8 of the same shape (side, side, 3)."""
        pipeline: Any = composed([self._transform(library(), image.shape[0])])
        name = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(image).data)
        pipeline.set_random_seed(named_generator(self.seed, "corruption", name).initial_seed() % 2**32)
        return np.ascontiguousarray(pipeline(image=image)["image"])

    def _transform(self, library: Any, side: int) -> Any:
        level = LEVELS[self.kind][self.strength - 1]
        match self.kind:
            case "noise":
                return library.GaussNoise(std_range=(level, level), p=1)
            case "blur":
                sigma = level * side / REFERENCE_SIDE
                return library.GaussianBlur(blur_limit=0, sigma_limit=(sigma, sigma), p=1)
            case "brightness":
                return library.RandomBrightnessContrast((level, level), (0, 0), p=1)
            case _:
                return library.ImageCompression(quality_range=(int(level), int(level)), p=1)
