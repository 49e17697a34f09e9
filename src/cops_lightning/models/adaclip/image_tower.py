"""CLIP's image tower with prompts among its tokens, over the backbone's own weights, which a gradient passes through.

`clip.image_encoder` is faster and knows no gradient; here every token may depend on what is learnt.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from cops_lightning.clip.image_encoder import mix_heads, split_heads


def prompted(
    visual: VisionTransformer,
    tokens: Float[Tensor, "b t w"],
    prompts: Sequence[Float[Tensor, "b q w"]],
    layers: Sequence[int],
    mix: Callable[..., Tensor] = mix_heads,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b l p w"]]:
    """The global feature, and the patches after `layers`, which count from 1, as they are in the tower.

    `tokens` are class token and patches at the input of the first layer. `prompts` of each layer follow them there and
    take the place of the former ones; those of the last prompted layer stay until the end. Those beyond the tower's
    depth go unused. `mix` is the attention.
    """
    count, x, taps = tokens.shape[1], tokens, []
    for at, block in enumerate(visual.transformer.resblocks):
        if at < len(prompts):
            x = torch.cat([x[:, :count], prompts[at]], dim=1)
        x = _block(x, block, mix)
        if at + 1 in layers:
            taps.append(x[:, 1:count])
    image = (visual.ln_post(x[:, 0]) @ visual.proj).float()
    return image, torch.stack(taps, dim=1).float()


def plainly_mixed(
    q: Float[Tensor, "b h t e"], k: Float[Tensor, "b h u e"], v: Float[Tensor, "b h u e"]
) -> Float[Tensor, "b t w"]:
    """Softmax attention written out as in the released program, to its last bits, heads joined."""
    weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1)
    mixed: Tensor = (weights @ v).transpose(1, 2).flatten(2)
    return mixed


def _block(
    x: Float[Tensor, "b t w"], block: ResidualAttentionBlock, mix: Callable[..., Tensor]
) -> Float[Tensor, "b t w"]:
    """One block with the exact GELU, whatever the tower's activation."""
    attn, mlp = block.attn, block.mlp
    qkv = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    x = x + attn.out_proj(mix(*(split_heads(part, attn.num_heads) for part in qkv)))
    hidden: Tensor = x + mlp.c_proj(F.gelu(mlp.c_fc(block.ln_2(x))))
    return hidden
