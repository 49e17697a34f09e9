"""The model of a released checkpoint over a CLIP's state dict, as many tests need it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.models.cops import CoPS


def released_cops(
    clip: Mapping[str, Tensor], weights: Any, auxiliary: str, image_size: int | None = None, **options: Any
) -> CoPS:
    """`weights` is what `CoPS.load_released` takes, or None for fresh weights; `options` are those of `CoPS`."""
    model = CoPS(clip_from_state(clip), auxiliary, image_size=image_size, **options)
    if weights is not None:
        model.load_released(Path(weights) if isinstance(weights, str) else weights)
    return model
