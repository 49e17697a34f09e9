"""Training objectives. Pixel losses are computed on the patch grid, with the pixel counts of each patch as weights.

A patch probability that is upsampled by repetition is constant over the patch, so sums over pixels equal sums over
patches weighted by how many pixels of the patch are normal and anomalous.
"""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cops_lightning.core.types import Masks
from cops_lightning.models.anomaly_map import Distances

ReconReading = Literal["released", "matched"]

FOCUS = 2
SMOOTHING = 1e-5
DICE_SMOOTH = 1.0


class PatchCounts(NamedTuple):
    """Anomalous pixels in each patch, and the pixels that a patch has."""

    anomalous: Float[Tensor, "b p"]
    pixels: int

    @property
    def touched(self) -> Bool[Tensor, "b p"]:
        """Patches with at least one anomalous pixel: the max-pool of the mask."""
        return self.anomalous > 0


def count_pixels(masks: Masks, patch_size: int) -> PatchCounts:
    """Counts for masks of 0 and 1 whose side divides by the patch size."""
    counts = F.avg_pool2d(masks[:, None].float(), patch_size, divisor_override=1)
    return PatchCounts(counts.flatten(1).round(), patch_size**2)


def focal_loss(probabilities: Float[Tensor, "b p 2"], counts: PatchCounts) -> Float[Tensor, ""]:
    """Mean over pixels of -(1 - pt)^2 log pt, with smoothed targets, as released."""
    normal, anomalous = probabilities.unbind(dim=-1)
    total = probabilities.new_zeros(())
    for own, other, weight in (
        (anomalous, normal, counts.anomalous),
        (normal, anomalous, counts.pixels - counts.anomalous),
    ):
        pt = (1 - SMOOTHING) * own + SMOOTHING * other + SMOOTHING
        total = total - (weight * (1 - pt) ** FOCUS * pt.log()).sum()
    return total / (counts.anomalous.numel() * counts.pixels)


def dice_loss(probability: Float[Tensor, "b p"], inside: Float[Tensor, "b p"], pixels: int) -> Float[Tensor, ""]:
    """1 - soft Dice of each image's map with its mask, averaged; `inside` counts the mask's pixels per patch."""
    overlap = (probability * inside).sum(dim=1)
    sizes = pixels * probability.sum(dim=1) + inside.sum(dim=1)
    return 1 - ((2 * overlap + DICE_SMOOTH) / (sizes + DICE_SMOOTH)).mean()


def patch_loss(probabilities: Float[Tensor, "b p 2"], counts: PatchCounts) -> Float[Tensor, ""]:
    """Focal loss plus the Dice losses of both channels."""
    normal, anomalous = probabilities.unbind(dim=-1)
    return (
        focal_loss(probabilities, counts)
        + dice_loss(anomalous, counts.anomalous, counts.pixels)
        + dice_loss(normal, counts.pixels - counts.anomalous, counts.pixels)
    )


def prototype_losses(distances: Distances, counts: PatchCounts) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Gather: mean distance of untouched patches to normal prototypes. Scatter: of touched ones to anomalous ones.

    Means are over the patches of the batch. Of no patches the loss is a constant 0, which has no gradient: an optimiser
    then leaves the queries that only this loss trains as they are, momentum included.
    """
    touched = counts.touched
    return _mean_where(distances.normal, ~touched), _mean_where(distances.anomalous, touched)


def _mean_where(x: Float[Tensor, "b p"], chosen: Bool[Tensor, "b p"]) -> Float[Tensor, ""]:
    if not chosen.any():
        return x.new_zeros(())
    # A masked sum keeps shapes fixed: indexing with a mask would make the GPU wait once more.
    return (x * chosen).sum() / chosen.sum()


def kl_loss(mean: Float[Tensor, "b d"], log_var: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """KL divergence of the posterior from the standard normal: summed over D, averaged over images."""
    return -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=1).mean()


def reconstruction_loss(
    features: Float[Tensor, "n d"], decoded: Float[Tensor, "b d"], reading: ReconReading
) -> Float[Tensor, ""]:
    """How far the decodings are from the features.

    "released" compares every image with every decoding, the mean over all pairs and dimensions; "matched" each image
    with its own (n is b), the squared distance averaged over images.
    """
    if reading == "matched":
        return (features - decoded).square().sum(dim=1).mean()
    return (features[:, None] - decoded[None]).square().mean()


def image_loss(logits: Float[Tensor, "b 2"], labels: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy of the image logits with the labels (0 normal, 1 anomalous)."""
    return F.cross_entropy(logits, labels)
