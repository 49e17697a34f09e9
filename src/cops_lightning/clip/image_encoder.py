"""The image tower as a frozen encoder: two paths through the same weights, arranged once per device.

The original path is CLIP's own pre-norm transformer. The value path (CLIP Surgery, arXiv 2304.05653) starts from the
tokens that enter a layer and adds, in it and in every later one, attention in which the original path's values serve as
queries, keys and values; it has no MLP. What is read of both is a `FeatureRequest`; one pass serves several. Nothing is
pooled or normalised. `benchmark.baseline.encode_image` writes out the default request.

What is saved here, none of it an approximation in fp32: the last block's original path is computed at the class token
where no request reads more; value paths leave the class token out, as nobody reads it, and share each layer's value
attention, which layers that no request reads go without; residuals are added in place;
and the activation is applied inside the matrix product where oneDNN can do so. QuickGELU, x * sigmoid(1.702 x), is
SiLU(1.702 x) / 1.702: the factor moves into the LayerNorm before the product and into the residual after it.

In bf16 and fp16 the matrix products and attention take half-precision operands and sum in fp32; LayerNorm, softmax and
the residual streams stay in fp32.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from cops_lightning.clip.request import DEFAULT, FeatureRequest, Positions, TowerActivation
from cops_lightning.core.choices import Precision
from cops_lightning.core.types import DTYPES, Features, Images

log = logging.getLogger(__name__)

# Raised when the same weights give other features than before: part of what cached features are named by.
ENCODER_VERSION = 1
# On a CPU, images are taken so many tokens at a time, at least one image: activations of more leave its caches.
CPU_TOKENS = 2048
QUICK_GELU_SLOPE = 1.702


def resize_positions(positions: Float[Tensor, "t w"], side: int, how: Positions = "bilinear") -> Float[Tensor, "u w"]:
    """Position embeddings for a patch grid of `side` x `side`, the class position kept; a new tensor."""
    count, width = positions.shape
    old = round((count - 1) ** 0.5)
    if old == side:
        return positions
    grid = positions[1:].T.reshape(1, width, old, old)
    mode, _, antialias = how.partition(" ")
    grid = F.interpolate(grid, size=(side, side), mode=mode, align_corners=False, antialias=bool(antialias))
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


def patch_tokens(
    visual: VisionTransformer, images: Images, positions: Positions = "bilinear"
) -> Float[Tensor, "b t w"]:
    """What both paths start from: class token and patches with their positions, normalised by `ln_pre`."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    side = images.shape[-1] // visual.patch_size[0]
    tokens = torch.cat([visual.class_embedding.expand(images.shape[0], 1, -1), patches], dim=1)
    normed: Tensor = visual.ln_pre(tokens + resize_positions(visual.positional_embedding, side, positions))
    return normed


class Norm(NamedTuple):
    """A LayerNorm."""

    weight: Float[Tensor, " w"]
    bias: Float[Tensor, " w"]
    eps: float


class Linear(NamedTuple):
    """A linear layer. A weight that oneDNN has packed is opaque."""

    weight: Tensor
    bias: Tensor


class Activation(NamedTuple):
    """A function, the factor that its argument carries and its result still holds, and oneDNN's name and algorithm."""

    function: Callable[[Tensor], Tensor]
    factor: float = 1.0
    fused: tuple[str, str] | None = None


class BlockWeights(NamedTuple):
    """One transformer block. `qkv` is one projection, in the last block two: queries apart from keys and values."""

    norm_1: Norm
    qkv: tuple[Linear, ...]
    out: Linear
    norm_2: Norm
    widen: Linear
    narrow: Linear


Product = Callable[[Tensor, Linear, Activation | None], Tensor]


def plain_product(x: Tensor, layer: Linear, activation: Activation | None = None) -> Tensor:
    """A linear layer, then the activation."""
    y = F.linear(x, layer.weight, layer.bias)
    return y if activation is None else activation.function(y)


def onednn_product(x: Tensor, layer: Linear, activation: Activation | None = None) -> Tensor:
    """The same as one oneDNN call, which applies the activation to a tile while it is in the cache."""
    name, algorithm = ("none", "") if activation is None or activation.fused is None else activation.fused
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], algorithm)
    return y if activation is None or activation.fused else activation.function(y)


@cache
def onednn_takes(dtype: torch.dtype) -> bool:
    """Whether this build of torch has oneDNN's fused linear layer for this type; found out by using it."""
    layer = Linear(torch.eye(16, dtype=dtype), torch.ones(16, dtype=dtype))
    try:
        packed = layer._replace(weight=pack(layer.weight))
        return bool((onednn_product(torch.eye(16, dtype=dtype), packed) == layer.weight + 1).all())
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def pack(weight: Float[Tensor, "o i"]) -> Tensor:
    """The weight in the order in which oneDNN reads it; half precision is copied anyway, fp32 is left where it is."""
    if weight.dtype == torch.float32:
        return weight
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), CPU_TOKENS)
    return packed


def advance(
    original: Float[Tensor, "b t w"],
    values: Sequence[Float[Tensor, "b p w"]],
    block: BlockWeights,
    heads: int,
    activation: Activation,
    product: Product,
    dtype: torch.dtype,
) -> None:
    """One block, all streams changed in place. A block with its projections apart keeps the class token alone."""
    normed = _norm(original, block.norm_1).to(dtype)
    if len(block.qkv) == 1:
        q, k, v = product(normed, block.qkv[0], None).chunk(3, dim=-1)
    else:
        original = original[:, :1]
        q = product(normed[:, :1], block.qkv[0], None)
        k, v = product(normed, block.qkv[1], None).chunk(2, dim=-1)
    q, k, v = (split_heads(part, heads) for part in (q, k, v))
    if values:
        mixed = product(mix_heads(v[:, :, 1:], v, v), block.out, None)
        for path in values:
            path.add_(mixed)
    original.add_(product(mix_heads(q, k, v), block.out, None))
    hidden = product(_norm(original, block.norm_2).to(dtype), block.widen, activation)
    original.add_(product(hidden, block.narrow, None), alpha=1 / activation.factor)


def _norm(x: Float[Tensor, "b t w"], norm: Norm) -> Float[Tensor, "b t w"]:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


class ImageEncoder:
    """A frozen image tower on the device where its weights lie. Batches of any size.

    Args:
        visual: the tower; its weights are read now and must not change or move afterwards.
        precision: of the operands of matrix products and attention.
        compiled: run blocks through torch.compile. Where that is not possible a warning says why, and they run as
            they are.
        activation: in the MLPs: the tower's own, or the exact GELU.
        fused: use oneDNN's own layers where there are any. Without, all operations are torch's, which can be exported.
    """

    def __init__(
        self,
        visual: VisionTransformer,
        precision: Precision = "fp32",
        compiled: bool = False,
        activation: TowerActivation = "own",
        fused: bool = True,
    ) -> None:
        self.visual = visual
        self.device = visual.conv1.weight.device
        self.dtype = DTYPES[precision]
        self._fused = fused and self.device.type == "cpu" and not compiled and onednn_takes(self.dtype)
        blocks = list(visual.transformer.resblocks)
        self._heads: int = blocks[0].attn.num_heads
        self._activation = _activation(nn.GELU() if activation == "gelu" else blocks[0].mlp.gelu)
        with torch.no_grad():
            self._blocks = [self._arrange(block, last=block is blocks[-1]) for block in blocks]
        self._whole_last: BlockWeights | None = None
        self._advance: Callable[..., None] = torch.compile(advance) if compiled else advance

    def __call__(self, images: Images, request: FeatureRequest = DEFAULT) -> Features:
        """Features of images on the encoder's device, in fp32."""
        return self.encode(images, [request])[0]

    @torch.no_grad()
    def encode(self, images: Images, requests: Sequence[FeatureRequest]) -> list[Features]:
        """The features of each request, by one pass. The requests agree about positions, the activation is set."""
        # A trainer's autocast would change the types that were chosen here.
        with torch.autocast(self.device.type, enabled=False):
            try:
                return self._encode(images, requests)
            except Exception as reason:
                # Whatever a compiler raises, the blocks run without it.
                if self._advance is advance:
                    raise
                log.warning("torch.compile failed, so the image encoder runs without it: %s", _first_line(reason))
                self._advance = advance
                return self._encode(images, requests)

    def _encode(self, images: Images, requests: Sequence[FeatureRequest]) -> list[Features]:
        if self.device.type != "cpu":
            return self.encode_whole(images, requests)
        tokens = (images.shape[-1] // self.visual.patch_size[0]) ** 2 + 1
        parts = [self.encode_whole(part, requests) for part in torch.split(images, max(1, CPU_TOKENS // tokens))]
        return [
            Features(torch.cat([part.image for part in of_request]), torch.cat([part.patches for part in of_request]))
            for of_request in zip(*parts, strict=True)
        ]

    def encode_whole(self, images: Images, requests: Sequence[FeatureRequest]) -> list[Features]:
        """`encode` with all images at once, and without its guards: what a tracer can follow."""
        visual, depth = self.visual, len(self._blocks)
        original = patch_tokens(visual, images.float(), requests[0].positions)
        product = onednn_product if self._fused else plain_product
        reads = [_Reading(request, depth) for request in requests]
        for at, block in enumerate(self._blocks, start=1):
            values = [path for read in reads if (path := read.values_at(at, original)) is not None]
            if at == depth and any(request.reads_original(at) for request in requests):
                block = self._last_of_all_tokens()
            self._advance(original, values, block, self._heads, self._activation, product, self.dtype)
            for read in reads:
                read.note(at, original)
        return [self._features(original[:, 0], read) for read in reads]

    def _features(self, class_token: Float[Tensor, "b w"], read: "_Reading") -> Features:
        visual, request = self.visual, read.request
        seen = visual.ln_post(class_token) if request.global_norm else class_token
        joint = request.patch_space == "joint"
        patches = [visual.ln_post(tap) @ visual.proj if joint else tap for tap in read.taps]
        return Features(seen @ visual.proj, patches[0] if request.layers is None else torch.stack(patches, dim=1))

    def _last_of_all_tokens(self) -> BlockWeights:
        if self._whole_last is None:
            self._whole_last = self._arrange(self.visual.transformer.resblocks[-1], last=False)
        return self._whole_last

    def _arrange(self, block: Any, last: bool) -> BlockWeights:
        attn, factor = block.attn, self._activation.factor
        width = attn.in_proj_weight.shape[1]
        rows = [slice(0, width), slice(width, None)] if last else [slice(None)]
        return BlockWeights(
            norm_1=Norm(block.ln_1.weight, block.ln_1.bias, block.ln_1.eps),
            qkv=tuple(self._layer(attn.in_proj_weight[part], attn.in_proj_bias[part]) for part in rows),
            out=self._layer(attn.out_proj.weight, attn.out_proj.bias),
            norm_2=Norm(block.ln_2.weight * factor, block.ln_2.bias * factor, block.ln_2.eps),
            widen=self._layer(block.mlp.c_fc.weight, block.mlp.c_fc.bias * factor),
            narrow=self._layer(block.mlp.c_proj.weight, block.mlp.c_proj.bias * factor),
        )

    def _layer(self, weight: Tensor, bias: Tensor) -> Linear:
        weight, bias = weight.detach().to(self.dtype), bias.detach().to(self.dtype)
        return Linear(pack(weight) if self._fused else weight, bias)


class _Reading:
    """What one request has read so far of a pass through a tower of `depth` blocks."""

    def __init__(self, request: FeatureRequest, depth: int) -> None:
        self.request, self.layers = request, request.read(depth)
        self.start = depth if request.values_from is None else request.values_from
        self.taps: list[Float[Tensor, "b p w"]] = []
        self._values: Float[Tensor, "b p w"] | None = None

    def values_at(self, block: int, original: Float[Tensor, "b t w"]) -> Float[Tensor, "b p w"] | None:
        """The value path that enters a block, None before it starts and after all of it is read."""
        if not self.layers or not self.start < block <= self.layers[-1]:
            return None
        if self._values is None:
            self._values = original[:, 1:].clone()
        return self._values

    def note(self, block: int, original: Float[Tensor, "b t w"]) -> None:
        """Read the patches after a block, if they are asked for."""
        if block in self.layers:
            path = original[:, 1:] if self._values is None else self._values
            last = block == self.layers[-1] and self._values is not None
            self.taps.append(path if last else path.clone())  # both paths go on in place


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line]
    return lines[0] if lines else type(error).__name__


def _activation(module: nn.Module) -> Activation:
    """The activation between the layers of an MLP, in the form in which it is cheapest."""
    if isinstance(module, QuickGELU):
        return Activation(F.silu, QUICK_GELU_SLOPE, ("swish", ""))
    if isinstance(module, nn.GELU) and module.approximate == "none":
        return Activation(F.gelu, fused=("gelu", "none"))
    return Activation(module)
