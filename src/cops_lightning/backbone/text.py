"""CLIP's text tower applied to prompts that are already embeddings, with deep tokens spliced in."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from open_clip.model import CLIP
from torch import Tensor

Heads = Float[Tensor, "n h t e"]
Seen = Float[Tensor, "n h u e"]


def _project(block: Any, x: Float[Tensor, "n t d"]) -> tuple[Heads, Heads, Heads]:
    """Queries, keys and values of one block, split over its heads."""
    attn = block.attn
    n, t, d = x.shape
    qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.view(n, t, 3, attn.num_heads, d // attn.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _finish(
    block: Any, x: Float[Tensor, "n t d"], q: Heads, k: Seen, v: Seen, mask: Bool[Tensor, "t u"]
) -> Float[Tensor, "n t d"]:
    """Attention under `mask` (True where a query may look), then the MLP, each with its residual."""
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    x = x + block.attn.out_proj(mixed)
    result: Tensor = x + block.mlp(block.ln_2(x))
    return result


def encode_prompts(
    clip: CLIP,
    prefix: Float[Tensor, "n t1 d"],
    suffix: Float[Tensor, "n m t2 d"],
    deep: Sequence[Float[Tensor, "c d"]],
) -> Float[Tensor, "n m d"]:
    """Joint-space feature, not normalised, of every prompt `prefix[i] + suffix[i, j]`, read at its last token (EOT).

    `deep[i]` overwrites positions 1 to c at the input of block i + 1 (deep prompts); those beyond the tower's depth go
    unused. Attention is causal, so the tokens after EOT cannot matter and are left out, and the prefix, which all m
    suffixes share, is encoded once; the result equals encoding all 77 positions of every prompt.
    """
    n, m, t2, d = suffix.shape
    t1 = prefix.shape[1]
    allowed = torch.ones(t1 + t2, t1 + t2, dtype=torch.bool, device=prefix.device).tril()
    head = prefix + clip.positional_embedding[:t1]
    tail = (suffix + clip.positional_embedding[t1 : t1 + t2]).reshape(n * m, t2, d)
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            tokens = deep[index - 1].expand(n, -1, -1)
            head = torch.cat([head[:, :1], tokens, head[:, 1 + tokens.shape[1] :]], dim=1)
        q1, k1, v1 = _project(block, head)
        q2, k2, v2 = _project(block, tail)
        seen_k, seen_v = (
            torch.cat([shared.repeat_interleave(m, dim=0), own], dim=2) for shared, own in ((k1, k2), (v1, v2))
        )
        head = _finish(block, head, q1, k1, v1, allowed[:t1, :t1])
        tail = _finish(block, tail, q2, seen_k, seen_v, allowed[t1:])
    features: Tensor = clip.ln_final(tail[:, -1]) @ clip.text_projection
    return features.view(n, m, -1)
