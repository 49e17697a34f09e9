"""The model of a released checkpoint over a CLIP's state dict, as many tests need it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cops_lightning.models.cops import CoPS


def released_cops(
    clip: Mapping[str, Tensor], weights: Any, auxiliary: str, image_size: int | None = None, **options: Any
) -> CoPS:
    """`weights` is what `CoPS.load_released` takes, or None for fresh weights; `options` are those of `CoPS`."""
    return CoPS.from_released(clip, weights, image_size, preset=auxiliary, **options)
