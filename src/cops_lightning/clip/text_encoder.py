"""CLIP's text tower applied to prompts that are already embeddings, with deep tokens spliced in."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from open_clip.model import CLIP
from torch import Tensor

Rows = Float[Tensor, "r d"]


def encode_prompts(
    clip: CLIP,
    prefix: Float[Tensor, "n t1 d"],
    suffix: Float[Tensor, "n m t2 d"],
    deep: Sequence[Float[Tensor, "n c d"]],
    ends: Int[Tensor, "n m"] | None = None,
    exact_gelu: bool = False,
) -> Float[Tensor, "n m d"]:
    """Joint-space feature, not normalised, of every prompt `prefix[i] + suffix[i, j]`, read at EOT.

    EOT is at the positions `ends`, so that prompts may have unequal lengths: whatever fills the places after it has no
    influence. None is the last position of all. `exact_gelu` puts the exact GELU in place of the tower's activation.

    `deep[i]` overwrites positions 1 to c at the input of block i + 1 (deep prompts), in each of the n prefixes by its
    own; those beyond the tower's depth go unused. Attention is causal, so the tokens after EOT cannot matter and are
    left out, and the prefix, which all m suffixes share, is encoded once; the result equals encoding all 77 positions
    of every prompt.
    """
    n, m, t2, d = suffix.shape
    t1 = prefix.shape[1]
    allowed = torch.ones(t1 + t2, t1 + t2, dtype=torch.bool, device=prefix.device).tril()
    head = prefix + clip.positional_embedding[:t1]
    tail = suffix + clip.positional_embedding[t1 : t1 + t2]
    # All tokens lie in one matrix, so that every weight is read once a block; only attention tells head from tail.
    sizes = [n * t1, n * m * t2]
    rows = torch.cat([head.reshape(-1, d), tail.reshape(-1, d)])
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            rows = _splice(rows, deep[index - 1], t1)
        heads = block.attn.num_heads
        qkv = F.linear(block.ln_1(rows), block.attn.in_proj_weight, block.attn.in_proj_bias)
        q1, k1, v1 = _split(qkv[: sizes[0]], n, t1, heads)
        q2, k2, v2 = _split(qkv[sizes[0] :], n * m, t2, heads)
        k2, v2 = (torch.cat([shared.repeat_interleave(m, dim=0), own], dim=2) for shared, own in ((k1, k2), (v1, v2)))
        mixed = torch.cat([_mix(q1, k1, v1, allowed[:t1, :t1]), _mix(q2, k2, v2, allowed[t1:])])
        rows = rows + block.attn.out_proj(mixed)
        hidden = block.mlp.c_fc(block.ln_2(rows))
        rows = rows + block.mlp.c_proj(F.gelu(hidden) if exact_gelu else block.mlp.gelu(hidden))
    last = rows[sizes[0] :].view(n, m, t2, d)[:, :, -1]
    if ends is not None:
        shared = rows[: sizes[0]].view(n, 1, t1, d).expand(n, m, t1, d)
        whole = torch.cat([shared, rows[sizes[0] :].view(n, m, t2, d)], dim=2)
        last = whole.gather(2, ends[:, :, None, None].expand(n, m, 1, d))[:, :, 0]
    features: Tensor = clip.ln_final(last) @ clip.text_projection
    return features


def _splice(rows: Rows, tokens: Float[Tensor, "n c d"], t1: int) -> Rows:
    """`tokens` in place of positions 1 to c of the n prefixes."""
    n, c, _ = tokens.shape
    head = rows[: n * t1].view(n, t1, -1)
    head = torch.cat([head[:, :1], tokens, head[:, 1 + c :]], dim=1)
    return torch.cat([head.flatten(0, 1), rows[n * t1 :]])


def _split(qkv: Float[Tensor, "r e"], n: int, t: int, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of n sequences of t tokens, each (n, heads, t, width of a head)."""
    q, k, v = qkv.view(n, t, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _mix(
    q: Float[Tensor, "n h t e"],
    k: Float[Tensor, "n h u e"],
    v: Float[Tensor, "n h u e"],
    allowed: Bool[Tensor, "t u"],
) -> Rows:
    """Attention to the tokens that are `allowed`, heads joined, one row per token."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2).flatten(0, 1)
