"""Explicit state tokens (ESTS): normal and anomalous prototypes extracted from an image's patch features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""

    def forward(self, x: Tensor) -> Tensor:
        """Element-wise, any shape."""
        return x * torch.sigmoid(1.702 * x)


class PrototypeExtractor(nn.Module):
    """Cross-attention from K learnable queries to the patch features, then an MLP, each with its residual.

    As released, queries and patch features share one LayerNorm, and the MLP does not widen.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(width, width))

    def forward(self, queries: Float[Tensor, "k d"], patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b k d"]:
        """Prototypes of every image."""
        q = queries.expand(len(patches), -1, -1)
        keys = self.ln_1(patches)
        q = q + self.attn(self.ln_1(q), keys, keys, need_weights=False)[0]
        prototypes: Tensor = q + self.mlp(self.ln_2(q))
        return prototypes


class ExplicitStates(nn.Module):
    """Queries of both states and the extractor that they share."""

    def __init__(self, width: int, heads: int, prototypes: int) -> None:
        super().__init__()
        self.t_n = nn.Parameter(0.02 * torch.randn(prototypes, width))
        self.t_a = nn.Parameter(0.02 * torch.randn(prototypes, width))
        self.extractor = PrototypeExtractor(width, heads)

    def forward(self, patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b 2 k d"]:
        """Prototypes, normal first."""
        return torch.stack([self.extractor(self.t_n, patches), self.extractor(self.t_a, patches)], dim=1)
