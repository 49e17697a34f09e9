"""Training objectives: cross-entropy of the image, and focal and Dice losses of every layer's bilinear map.

Dice needs sums over pixels of a map, alone and times a mask. Upsampling is linear, so these are sums over patches with
weights that are computed once per mask; only the focal loss needs the map itself. With U the upsampling of one axis, a
map is U s U^T for the scores s on the patch grid.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cops_lightning.core.types import Labels, Masks

FOCUS = 2
SMOOTHING = 1e-5
DICE_SMOOTH = 1.0


class SegmentationLosses(NamedTuple):
    """Losses of the maps, summed over layers."""

    focal: Float[Tensor, ""]
    dice_anomalous: Float[Tensor, ""]
    dice_normal: Float[Tensor, ""]


def image_loss(logits: Float[Tensor, "b 2"], labels: Labels) -> Float[Tensor, ""]:
    """Cross-entropy of the image's cosines over temperature with the label."""
    return F.cross_entropy(logits, labels)


def focal_loss(anomalous: Float[Tensor, "b l s s"], masks: Masks) -> Float[Tensor, ""]:
    """Mean over pixels of -(1 - pt)^2 ln pt with smoothed targets, summed over layers; no weights of classes."""
    is_anomalous = masks.clamp(SMOOTHING, 1 - SMOOTHING)[:, None]
    is_normal = (1 - masks).clamp(SMOOTHING, 1 - SMOOTHING)[:, None]
    pt = is_normal * (1 - anomalous) + is_anomalous * anomalous + SMOOTHING
    return -((1 - pt) ** FOCUS * pt.log()).mean(dim=(0, 2, 3)).sum()


def segmentation_losses(
    probabilities: Float[Tensor, "b l p"], masks: Masks, upsampling: Float[Tensor, "s g"]
) -> SegmentationLosses:
    """Losses of the maps that the patches' probabilities give, of masks of 0 and 1. `upsampling` is U.

    The Dice losses are 1 - (2 overlap + 1) / (sizes + 1) of each image, averaged over images, as released but for a
    batch of one image, of which the released program takes each row of pixels for an image.
    """
    b, layers, _ = probabilities.shape
    side, grid = upsampling.shape
    scores = probabilities.view(b, layers, grid, grid)
    focal = focal_loss(upsampling @ scores @ upsampling.T, masks)
    inside = (upsampling.T @ masks @ upsampling).flatten(1)[:, None]
    everywhere = torch.outer(upsampling.sum(dim=0), upsampling.sum(dim=0)).flatten()
    mass, marked = probabilities @ everywhere, masks.sum(dim=(1, 2))[:, None]
    overlap = (probabilities * inside).sum(dim=-1)
    pixels = side * side
    return SegmentationLosses(
        focal,
        _dice(overlap, mass + marked),
        # Of the complements: sum (1 - p)(1 - m) = pixels - sum p - sum m + sum p m.
        _dice(pixels - mass - marked + overlap, 2 * pixels - mass - marked),
    )


def _dice(overlap: Float[Tensor, "b l"], sizes: Float[Tensor, "b l"]) -> Float[Tensor, ""]:
    return (1 - (2 * overlap + DICE_SMOOTH) / (sizes + DICE_SMOOTH)).mean(dim=0).sum()
