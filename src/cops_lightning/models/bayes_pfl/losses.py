"""Training objectives, of the pair of prompts that a step has drawn."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cops_lightning.core.types import Masks, Share
from cops_lightning.models.bayes_pfl.flows import Latents

EPSILON = 1e-8
DICE_SMOOTH = 1e-5
DIVERGENCE_WEIGHT = 0.01


class SegmentationLosses(NamedTuple):
    """Losses of the maps, summed over layers."""

    focal: Float[Tensor, ""]
    dice: Float[Tensor, ""]


def segmentation_losses(
    logits: Float[Tensor, "b l s s"], masks: Masks, share: Share | None = None
) -> SegmentationLosses:
    """Focal loss as the mean over anomalous pixels plus that over normal ones, and Dice, over the whole batch, of
    which these images may be a share.
    """
    anomalous, normal, marked = logits.sigmoid(), (-logits).sigmoid(), masks[:, None]
    over = (0, 2, 3)
    hit = (normal.square() * -(anomalous + EPSILON).log() * marked).sum(over)
    clear = (anomalous.square() * -(normal + EPSILON).log() * (1 - marked)).sum(over)
    overlap, found = (anomalous * marked).sum(over), anomalous.sum(over)
    counts = (masks.sum().expand_as(hit), (1 - masks).sum().expand_as(hit))
    sums = torch.stack([hit, clear, overlap, found, *counts])
    hit, clear, overlap, found, hits, clears = sums if share is None else share.total(sums)
    focal = hit / (hits + EPSILON) + clear / (clears + EPSILON)
    dice = 1 - (2 * overlap + DICE_SMOOTH) / (found + hits + DICE_SMOOTH)
    return SegmentationLosses(focal.sum(), dice.sum())


def divergence(found: Latents, shared_by: int = 1) -> Float[Tensor, ""]:
    """Weighted distance of a flow's distribution from the standard normal, up to a constant; mean over samples.

    As released, the term of the steps of a state's flow is divided by the images that share its sample.
    """
    return DIVERGENCE_WEIGHT * (found.log_q - found.log_prior - found.log_det / shared_by).mean()


def orthogonality(text: Float[Tensor, "b 2 k d"]) -> Float[Tensor, ""]:
    """Mean squared cosine of the bank's prompts of a state with each other, 0 with itself; summed over both states."""
    cosines = text @ text.mT
    apart = 1 - torch.eye(cosines.shape[-1], device=text.device)
    return (cosines * apart).square().mean(dim=(0, 2, 3)).sum()
