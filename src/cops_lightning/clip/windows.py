"""Parts of an image through CLIP's image tower: only the tokens of some patches, at their places (WinCLIP)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from open_clip.transformer import VisionTransformer
from torch import Tensor

from cops_lightning.clip.image_encoder import patch_tokens
from cops_lightning.core.types import Features, Images

# Tokens per pass through the tower: bounds memory whatever the number of windows.
TOKENS = 16384


def square_windows(grid: int, side: int) -> Int[Tensor, "n t"]:
    """Every window of `side` x `side` patches on a `grid` x `grid` patch grid, stride 1, as indices of its patches.

    Raises ValueError if the grid is smaller than a window.
    """
    if grid < side:
        raise ValueError(f"A grid of {grid} x {grid} patches has no window of {side} x {side}.")
    places = torch.arange(grid * grid).view(grid, grid)
    return places.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)


@torch.no_grad()
def encode_windows(visual: VisionTransformer, images: Images, windows: Int[Tensor, "n t"]) -> Float[Tensor, "b n d"]:
    """CLIP's own global feature, not normalised, of every window: the class token attends to its patches alone.

    Tokens outside a window are left out before the first block; positions stay those of the whole image. The window of
    all patches gives CLIP's feature of the image, `ln_post` included. Always fp32.
    """
    tokens, b = patch_tokens(visual, images), len(images)
    encoded = []
    at_once = max(1, TOKENS // (b * (windows.shape[1] + 1)))
    for part in torch.split(windows.to(images.device), at_once):
        seen = torch.cat([torch.zeros_like(part[:, :1]), part + 1], dim=1)
        x = visual.transformer(tokens[:, seen].flatten(0, 1))
        encoded.append((visual.ln_post(x[:, 0]) @ visual.proj).view(b, len(part), -1))
    return torch.cat(encoded, dim=1)


def window_features(visual: VisionTransformer, images: Images, sides: Sequence[int]) -> Features:
    """What a `WindowRequest` of these sides reads: CLIP's own feature of images, and of their windows, in fp32."""
    grid = images.shape[-1] // visual.patch_size[0]
    with torch.autocast(images.device.type, enabled=False):
        whole, *parts = (
            encode_windows(visual, images.float(), windows)
            for windows in (torch.arange(grid * grid)[None], *(square_windows(grid, side) for side in sides))
        )
    return Features(whole[:, 0], torch.cat(parts, dim=1))
