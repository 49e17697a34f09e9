"""Surgery on a CLIP image tower: two paths through the same frozen weights (SPEC of CoPS; CLIP Surgery, 2304.05653)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import VisionTransformer
from torch import Tensor

from cops_lightning.core.types import Features, Images

# Raised when the same weights give other features than before: part of what cached features are named by.
SURGERY_VERSION = 1


def resize_positions(positions: Float[Tensor, "t w"], side: int) -> Float[Tensor, "u w"]:
    """Position embeddings for a patch grid of `side` x `side`: bilinear, the class position kept; a new tensor."""
    count, width = positions.shape
    old = round((count - 1) ** 0.5)
    if old == side:
        return positions
    grid = positions[1:].T.reshape(1, width, old, old)
    grid = F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)
    return torch.cat([positions[:1], grid.reshape(width, side * side).T])


def split_heads(x: Float[Tensor, "b t w"], heads: int) -> Float[Tensor, "b h t e"]:
    """Tower width split over attention heads."""
    b, t, w = x.shape
    return x.view(b, t, heads, w // heads).transpose(1, 2)


def mix_heads(
    q: Float[Tensor, "b h t e"], k: Float[Tensor, "b h u e"], v: Float[Tensor, "b h u e"]
) -> Float[Tensor, "b t w"]:
    """Fused softmax attention, heads joined."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def patch_tokens(visual: VisionTransformer, images: Images) -> Float[Tensor, "b t w"]:
    """What both paths start from: class token and patches with their positions, normalised by `ln_pre`."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    side = images.shape[-1] // visual.patch_size[0]
    tokens = torch.cat([visual.class_embedding.expand(len(images), 1, -1), patches], dim=1)
    normed: Tensor = visual.ln_pre(tokens + resize_positions(visual.positional_embedding, side))
    return normed


def encode_image(visual: VisionTransformer, images: Images) -> Features:
    """Global feature of the original path and patch features of the value path, both in the joint space.

    The original path is CLIP's own pre-norm transformer. The value path starts from the same tokens and adds, in every
    layer, attention in which the original path's values serve as queries, keys and values; it has no MLP. The global
    feature skips `ln_post`, unlike CLIP's own; the patch features do not. Neither is pooled or normalised.

    This is the definition, and it takes gradients. A frozen tower runs as `image.ImageEncoder`.
    """
    original = values = patch_tokens(visual, images)
    for block in visual.transformer.resblocks:
        attn = block.attn
        qkv = F.linear(block.ln_1(original), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (split_heads(part, attn.num_heads) for part in qkv.chunk(3, dim=-1))
        values = values + attn.out_proj(mix_heads(v, v, v))
        original = original + attn.out_proj(mix_heads(q, k, v))
        original = original + block.mlp(block.ln_2(original))
    return Features(image=original[:, 0] @ visual.proj, patches=visual.ln_post(values[:, 1:]) @ visual.proj)
