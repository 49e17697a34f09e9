"""Explicit state tokens (ESTS): normal and anomalous prototypes extracted from an image's patch features."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from cops_lightning.models.anomaly_map import Prototypes


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

    def normalise(self, patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        """Patch features under LayerNorm without its scale and bias, which `forward` applies later."""
        return F.layer_norm(patches, patches.shape[-1:], eps=self.ln_1.eps)

    def forward(self, queries: Float[Tensor, "k d"], x: Float[Tensor, "b p d"]) -> Float[Tensor, "b k d"]:
        """Prototypes of every image, of patch features `x` as `normalise` gives them.

        Keys and values of the many patches are never projected. A score is q . W_k x = (W_k^T q) . x, so the few
        queries are projected instead; what adds the same to all scores of a query (the bias of keys, LayerNorm's bias)
        leaves its softmax as it is; and as weights sum to 1, W_v and LayerNorm's scale and bias act on the mixed patch.
        """
        k, d = queries.shape
        heads, norm = self.attn.num_heads, self.ln_1
        w_q, w_k, w_v = self.attn.in_proj_weight.chunk(3)
        b_q, _, b_v = self.attn.in_proj_bias.chunk(3)
        q = F.linear(norm(queries), w_q, b_q).view(k, heads, -1) / math.sqrt(d // heads)
        asked = torch.einsum("khe,hed->hkd", q, w_k.view(heads, -1, d)) * norm.weight
        weights = torch.softmax(x @ asked.flatten(0, 1).T, dim=1)
        mixed = (weights.transpose(1, 2) @ x * norm.weight + norm.bias).view(-1, heads, k, d)
        values = torch.einsum("bhkd,hed->bkhe", mixed, w_v.view(heads, -1, d)).flatten(2) + b_v
        found = queries + self.attn.out_proj(values)
        prototypes: Tensor = found + self.mlp(self.ln_2(found))
        return prototypes


class StateTokens(nn.Module):
    """Queries of both states and the extractor that they share."""

    def __init__(self, width: int, heads: int, prototypes: int) -> None:
        super().__init__()
        self.t_n = nn.Parameter(0.02 * torch.randn(prototypes, width))
        self.t_a = nn.Parameter(0.02 * torch.randn(prototypes, width))
        self.extractor = PrototypeExtractor(width, heads)

    def forward(self, patches: Float[Tensor, "b p d"]) -> Prototypes:
        """Prototypes of every image."""
        x = self.extractor.normalise(patches)
        return Prototypes(self.extractor(self.t_n, x), self.extractor(self.t_a, x))
