"""Patch neighbourhoods, distances to prototypes, spatial weights, and the step from patch scores to pixel maps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.models.alignment import unit

Upsampling = Literal["nearest", "bilinear"]
DistanceRange = Literal["image", "batch"]

SIGMA = 4.0
# scipy.ndimage.gaussian_filter cuts its kernel at this many standard deviations by default.
TRUNCATE = 4.0


def pool_neighbours(patches: Float[Tensor, "b p d"], window: int) -> Float[Tensor, "b p d"]:
    """Mean over the `window` x `window` neighbourhood on the patch grid; padding zeros count in the mean."""
    b, p, d = patches.shape
    side = round(p**0.5)
    grid = patches.transpose(1, 2).reshape(b, d, side, side)
    return F.avg_pool2d(grid, window, stride=1, padding=window // 2).flatten(2).transpose(1, 2)


class Prototypes(NamedTuple):
    """Prototypes of the two states, apart from each other: what trains the one leaves the other without a gradient."""

    normal: Float[Tensor, "b k d"]
    anomalous: Float[Tensor, "b k d"]


class Distances(NamedTuple):
    """1 - cosine of each patch with the nearest prototype of each state; in [0, 2]."""

    normal: Float[Tensor, "b p"]
    anomalous: Float[Tensor, "b p"]


def prototype_distances(patches: Float[Tensor, "b p d"], prototypes: Prototypes) -> Distances:
    """How far each patch is from the prototypes of both states."""
    directions = unit(patches)
    return Distances(*((1 - directions @ unit(of_state).mT).amin(dim=-1) for of_state in prototypes))


def minmax(x: Float[Tensor, "b p"], over: DistanceRange) -> Float[Tensor, "b p"]:
    """`x` shifted and scaled to [0, 1] per image, or over the whole batch; a constant map becomes 0.

    The released program takes the range over the batch, which agrees with "image" at its batch size of 1 and lets
    a score depend on its neighbours at any other.
    """
    dims = (1,) if over == "image" else (0, 1)
    low, high = x.amin(dim=dims, keepdim=True), x.amax(dim=dims, keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (x - low) / spread.where(spread > 0, 1.0), 0.0)


def spatial_weights(distances: Distances, alpha: float, over: DistanceRange) -> Float[Tensor, "b p"]:
    """How likely a patch is anomalous by its prototypes alone: far from normal, near to anomalous; in [0, 1]."""
    normal, anomalous = distances
    return alpha * minmax(normal, over) + (1 - alpha) * (1 - minmax(anomalous, over))


def gaussian_matrix(side: int, sigma: float = SIGMA) -> Float[Tensor, "s s"]:
    """The linear map of `scipy.ndimage.gaussian_filter1d` with its default reflection, in float64.

    scipy's "reflect" repeats the edge pixel (d c b a | a b c d | d c b a).
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= kernel.sum()
    source = (torch.arange(side)[:, None] + offsets) % (2 * side)
    source = torch.where(source < side, source, 2 * side - 1 - source)
    return torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, source, kernel.expand(side, -1).contiguous())


def upsampling_matrix(grid: int, side: int, upsampling: Upsampling) -> Float[Tensor, "s g"]:
    """The linear map that lifts `grid` values to `side` pixels along one axis, in float64."""
    options = {"align_corners": False} if upsampling == "bilinear" else {}
    identity = torch.eye(grid, dtype=torch.float64)[None]
    return F.interpolate(identity, size=side, mode="linear" if options else "nearest", **options)[0].T


class SmoothUpsampler(nn.Module):
    """Patch scores to a smoothed pixel map: upsampling then Gaussian is one linear, separable map G M G^T."""

    matrix: Tensor

    def __init__(self, grid: int, patch_size: int, upsampling: Upsampling) -> None:
        super().__init__()
        self.grid = grid
        side = grid * patch_size
        matrix = gaussian_matrix(side) @ upsampling_matrix(grid, side, upsampling)
        self.register_buffer("matrix", matrix.float(), persistent=False)

    def forward(self, patch: Float[Tensor, "b p"]) -> Float[Tensor, "b s s"]:
        """One value per pixel, in the range of the patch values."""
        matrix = self.matrix.to(patch.device)
        return matrix @ patch.view(-1, self.grid, self.grid) @ matrix.T


class LogitUpsampler(nn.Module):
    """Logits on the patch grid, of one pair of prompts or of several, to a smoothed map: the mean of the pairs' maps.

    They are upsampled before they are made probabilities, bilinearly between the corners of the map, which are those of
    the grid.
    """

    upsampling: Tensor
    smoothing: Tensor

    def __init__(self, grid: int, side: int, sigma: float = SIGMA) -> None:
        super().__init__()
        self.grid = grid
        lines = F.interpolate(torch.eye(grid, dtype=torch.float64)[None], side, mode="linear", align_corners=True)
        self.register_buffer("upsampling", lines[0].T.float(), persistent=False)
        self.register_buffer("smoothing", gaussian_matrix(side, sigma).float(), persistent=False)

    def logits(self, evidence: Float[Tensor, "*n p"]) -> Float[Tensor, "*n s s"]:
        """One value per pixel of every pair, before the sigmoid."""
        matrix = self.upsampling.to(evidence.device)
        found: Tensor = matrix @ evidence.view(*evidence.shape[:-1], self.grid, self.grid) @ matrix.T
        return found

    def raw(self, evidence: Float[Tensor, "b e"]) -> Float[Tensor, "b s s"]:
        """Maps before smoothing, one image at a time: hundreds of maps are averaged."""
        pairs = evidence.view(len(evidence), -1, self.grid**2)
        return torch.stack([self.logits(of_image).sigmoid().mean(dim=0) for of_image in pairs])

    def forward(self, evidence: Float[Tensor, "b e"]) -> Float[Tensor, "b s s"]:
        """Smoothed maps, in [0, 1]."""
        smoothing = self.smoothing.to(evidence.device)
        return smoothing @ self.raw(evidence) @ smoothing.T


@dataclass(frozen=True)
class Scores:
    """Anomaly scores of a batch, all in [0, 1]; higher is more anomalous.

    `image` (b,) per image; `patch` (b, p) per patch, spatially weighted; `map` (b, s, s) per pixel after smoothing,
    computed from `patch` when first read, since the patch values are all that metrics and storage need.
    """

    image: Float[Tensor, " b"]
    patch: Float[Tensor, "b p"]
    expand: Callable[[Tensor], Tensor]

    @cached_property
    def map(self) -> Float[Tensor, "b s s"]:
        """Pixel map."""
        return self.expand(self.patch)
