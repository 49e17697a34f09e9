"""WinCLIP, zero-shot (arXiv 2303.14814): a prompt ensemble, and windows of several sizes through the image tower."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.request import WindowRequest
from cops_lightning.clip.windows import square_windows
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.types import Features
from cops_lightning.models.alignment import image_logits, patch_probabilities
from cops_lightning.models.anomaly_map import Scores, Upsampling
from cops_lightning.models.baselines.wording import ENSEMBLE, OBJECT, StatePrompts
from cops_lightning.models.detector import FeatureDetector

# Sides of the windows in patches, as in the paper; the third scale is the whole image.
SIDES = (2, 3)


def harmonic_mean(scores: Sequence[Float[Tensor, "b p"]]) -> Float[Tensor, "b p"]:
    """Element-wise harmonic mean of positive scores: one low score keeps it low."""
    return len(scores) / torch.stack([1 / part for part in scores]).sum(dim=0)


def spread_windows(scores: Float[Tensor, "b n"], windows: Int[Tensor, "n t"], patches: int) -> Float[Tensor, "b p"]:
    """Of each patch, the harmonic mean of the scores of the windows that cover it. Every patch must be covered."""
    covers = scores.new_zeros(len(windows), patches).scatter_(1, windows.to(scores.device), 1.0)
    return covers.sum(dim=0) / ((1 / scores) @ covers)


class WinClip(FeatureDetector):
    """WinCLIP without reference images, over any CLIP that carries CoPS.

    Image score: probability of the anomalous state for CLIP's own global feature. Patch scores: the harmonic mean, over
    windows of 2 x 2 and 3 x 3 patches and the whole image, of that probability; in a scale, of all windows over a
    patch. States are the means of the prompt ensemble over the category's name, the temperature is that of CoPS.

    The step from patch scores to pixels is that of CoPS, so that maps differ by their scores alone; the paper
    interpolates bilinearly (upsampling "bilinear") and does not smooth. Raises ConfigError if the patch grid is smaller
    than a window.

    Args:
        backbone: the frozen CLIP.
        image_size: side of images in pixels; None is the backbone's.
        upsampling: of patch scores to pixels.
        category_names: what to call categories in sentences; for others it is their own name in words.
    """

    request = WindowRequest(SIDES)

    def __init__(
        self,
        backbone: FrozenClip,
        image_size: int | None = None,
        upsampling: Upsampling = "nearest",
        category_names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(backbone, image_size, upsampling)
        if self.expand.grid < max(SIDES):
            raise ConfigError(
                f"image_size {self.image_size} gives a grid of {self.expand.grid} x {self.expand.grid} patches, too "
                f"small for windows of {max(SIDES)} x {max(SIDES)}; use {max(SIDES) * backbone.patch_size} or more."
            )
        self.prompts = StatePrompts(backbone, ENSEMBLE, category_names or {})

    @torch.no_grad()
    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features of images and their windows; images without a category are of an "object"."""
        text, grid = self.prompts(categories or [OBJECT] * len(features.image)), self.expand.grid
        image = image_logits(features.image, text).softmax(dim=-1)[:, 1]
        scales = [image[:, None].expand(-1, grid * grid)]
        windows = [square_windows(grid, side) for side in SIDES]
        parts = torch.split(features.patches, [len(of_side) for of_side in windows], dim=1)
        for of_side, seen in zip(windows, parts, strict=True):
            anomalous = patch_probabilities(seen, text)[..., 1]
            scales.append(spread_windows(anomalous, of_side, grid * grid))
        return Scores(image=image, patch=harmonic_mean(scales), expand=self.expand)
