"""Text features refined by the patches of each layer, and the step from pairs of prompts to a map."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.models.alignment import unit
from cops_lightning.models.anomaly_map import gaussian_matrix

HEADS = 4
SIGMA = 8.0


class CrossAttention(nn.Module):
    """Residual attention of text to patches, whose values are the patches themselves."""

    def __init__(self, width: int, tower: int, layers: int) -> None:
        super().__init__()
        self.q_proj_pre = nn.Conv1d(width, width, 1)
        self.linear_proj = nn.ModuleList(nn.Linear(tower, width, bias=False) for _ in range(layers))

    def forward(self, patches: Float[Tensor, "b l p w"], text: Float[Tensor, "b 2 k d"]) -> Float[Tensor, "b l k p"]:
        """Cosines of every patch with the anomalous prompt less those with the normal one, of each pair."""
        b, _, pairs, width = text.shape
        rows = text.flatten(1, 2)
        queries = F.linear(rows, self.q_proj_pre.weight[..., 0], self.q_proj_pre.bias).view(
            b, -1, HEADS, width // HEADS
        )
        found = []
        for of_layer, project in zip(patches.unbind(dim=1), self.linear_proj, strict=True):
            seen = unit(project(of_layer))
            heads = seen.view(b, -1, HEADS, width // HEADS).transpose(1, 2)
            # As released, the scale is that of the whole width, not of a head.
            mixed = F.scaled_dot_product_attention(queries.transpose(1, 2), heads, heads, scale=width**-0.5)
            refined = unit(rows + mixed.transpose(1, 2).flatten(2)).view(b, 2, pairs, width)
            found.append((refined[:, 1] - refined[:, 0]) @ seen.mT)
        return torch.stack(found, dim=1)


class Fusion(nn.Module):
    """One feature of an image from the patches of all layers, weighted by what they hold."""

    def __init__(self, width: int, tower: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.fuse_modules = nn.Linear(layers * tower, hidden)
        self.compress = nn.Linear(hidden, 1)
        self.post_process = nn.Linear(hidden, width)

    def forward(self, patches: Float[Tensor, "b l p w"]) -> Float[Tensor, "b d"]:
        """To be added to the global feature."""
        joined = self.fuse_modules(patches.transpose(1, 2).flatten(2))
        found: Tensor = self.post_process((self.compress(joined).softmax(dim=1) * joined).sum(dim=1))
        return found


class PairUpsampler(nn.Module):
    """Logits of pairs of prompts on the patch grid to the mean of their maps: upsampled first, then made probabilities.

    The upsampling is bilinear between the corners of the map, which coincide with those of the grid.
    """

    upsampling: Tensor
    smoothing: Tensor

    def __init__(self, grid: int, side: int) -> None:
        super().__init__()
        self.grid = grid
        lines = F.interpolate(torch.eye(grid, dtype=torch.float64)[None], side, mode="linear", align_corners=True)
        self.register_buffer("upsampling", lines[0].T.float(), persistent=False)
        self.register_buffer("smoothing", gaussian_matrix(side, SIGMA).float(), persistent=False)

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
