"""Training objectives: focal loss of the image, and focal and Dice losses of every layer's map."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cops_lightning.core.types import Labels, Masks

FOCUS = 2
SMOOTHING = 1e-5
DICE_SMOOTH = 1.0


class SegmentationLosses(NamedTuple):
    """Losses of the maps, summed over layers."""

    focal: Float[Tensor, ""]
    dice_abnormal: Float[Tensor, ""]
    dice_normal: Float[Tensor, ""]


def image_loss(logits: Float[Tensor, " b"], labels: Labels) -> Float[Tensor, ""]:
    """Focal loss of the image's logit with its label, mean over images."""
    return _focal(logits, labels).mean()


def segmentation_losses(logits: Float[Tensor, "b l s s"], masks: Masks) -> SegmentationLosses:
    """Losses of the upsampled logits of every layer with masks of 0 and 1: means over images, sums over layers.

    As released, Dice takes each row of pixels for an image: 1 - (2 overlap + 1) / (sizes + 1), mean over rows.
    """
    marked = masks[:, None].expand_as(logits)
    return SegmentationLosses(
        _focal(logits, marked).mean(dim=(0, 2, 3)).sum(),
        _dice(logits.sigmoid(), marked),
        _dice((-logits).sigmoid(), 1 - marked),
    )


def _focal(logits: Float[Tensor, "*n"], target: Tensor) -> Float[Tensor, "*n"]:
    """-(1 - pt)^2 ln pt with smoothed targets."""
    anomalous = target.to(logits.dtype).clamp(SMOOTHING, 1 - SMOOTHING)
    pt = anomalous * logits.sigmoid() + (1 - anomalous) * (-logits).sigmoid() + SMOOTHING
    return -((1 - pt) ** FOCUS) * pt.log()


def _dice(probabilities: Float[Tensor, "b l s s"], marked: Float[Tensor, "b l s s"]) -> Float[Tensor, ""]:
    overlap, sizes = (probabilities * marked).sum(dim=-1), (probabilities + marked).sum(dim=-1)
    rows = 1 - (2 * overlap + DICE_SMOOTH) / (sizes + DICE_SMOOTH)
    return torch.stack([of_layer.mean() for of_layer in rows.unbind(dim=1)]).sum()
