"""Text features refined by the patches of each layer, and the feature that all patches give an image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.models.alignment import unit

HEADS = 4


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
