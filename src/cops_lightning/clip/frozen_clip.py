"""A frozen CLIP: architecture built by open_clip, weights given, everything that CoPS needs checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from cops_lightning.clip.image_encoder import ENCODER_VERSION, ImageEncoder
from cops_lightning.clip.request import DEFAULT, FeatureRequest, Request, TowerActivation, TowerSizes, WindowRequest
from cops_lightning.clip.text_encoder import encode_prompts
from cops_lightning.clip.weight_files import RANDOM
from cops_lightning.clip.windows import window_features
from cops_lightning.core.choices import Precision, require_choice
from cops_lightning.core.errors import ConfigError, WeightsError
from cops_lightning.core.types import Features, Images, StateDict
from cops_lightning.core.weights import mismatches

PROMPT_POSITIONS = 17
HEADS = 12
HEADS_AT_512 = 8
# Position of "." in CLIP's byte-pair vocabulary, the same in every vocabulary cut from it; SOT and EOT close the list.
PERIOD_TOKEN = 269
# Entries of OpenAI's JIT archives that are sizes, not weights.
ARCHIVE_SIZES = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class BackboneRecord:
    """What the frozen weights are. `fingerprint` hashes the tensors, `sha256` the file they came from, if any."""

    name: str
    origin: str
    fingerprint: str
    sha256: str | None = None
    published_by_openai: bool = False

    @property
    def is_random(self) -> bool:
        """Whether the weights were drawn and never trained."""
        return self.origin.startswith(RANDOM)


class FrozenClip(nn.Module):
    """CLIP's two towers, frozen: features of images, and of prompts that are given as embeddings.

    Raises WeightsError for an architecture that CoPS cannot use, with the reason, and ConfigError for an unknown
    precision.

    Args:
        clip: the model with its weights.
        record: what the weights are.
        image_size: side in pixels to which images are resized; None is the size that the image tower was trained at.
        deep_layers: how many text layers after the first get learnt tokens of their own.
        precision: of the image tower; prompts are encoded in fp32.
        compile: run the image tower through torch.compile.
    """

    def __init__(
        self,
        clip: CLIP,
        record: BackboneRecord,
        *,
        image_size: int | None = None,
        deep_layers: int = 8,
        precision: Precision = "fp32",
        compile: bool = False,
    ) -> None:
        super().__init__()
        refuse_unsuitable(clip, record.name)
        require_choice("backbone.precision", precision, Precision)
        self.clip = clip.eval().float().requires_grad_(False)
        self.record = record
        self.image_size: int = image_size or clip.visual.image_size[0]
        self.deep_layers = deep_layers
        self.precision: Precision = precision
        self.compiled = compile
        self._encoders: dict[TowerActivation, ImageEncoder] = {}
        self.require_side(self.image_size)

    def require_side(self, side: int) -> None:
        """Raise ConfigError unless images of this side are whole patches."""
        patch = self.patch_size
        if side % patch or side < patch:
            raise ConfigError(
                f"image_size is {side}, which the patch size {patch} of {self.record.name} does not divide; "
                f"use {max(1, side // patch) * patch} or {(side // patch + 1) * patch}."
            )

    def use_precision(self, precision: Precision) -> None:
        """Encode images in another precision from now on. Raises ConfigError for an unknown one."""
        require_choice("backbone.precision", precision, Precision)
        if precision != self.precision:
            self.precision, self._encoders = precision, {}

    def __getstate__(self) -> dict[str, Any]:
        """What copies and other processes get: they arrange the weights anew."""
        return {**self.__dict__, "_encoders": {}}

    def train(self, mode: bool = True) -> "FrozenClip":
        """A frozen tower never trains: the mode stays `eval`."""
        return super().train(False)

    @property
    def width(self) -> int:
        """Width D of the joint space, which is the text tower's width too."""
        return int(self.clip.text_projection.shape[1])

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.clip.visual.patch_size[0])

    @property
    def extractor_heads(self) -> int:
        """Attention heads of the prototype extractor at this width."""
        return extractor_heads(self.width) or 1

    def tower(self, image_size: int) -> TowerSizes:
        """Sizes of the image tower for images of this side."""
        visual = self.clip.visual
        width = int(visual.conv1.weight.shape[0])
        patches = (image_size // self.patch_size) ** 2
        return TowerSizes(len(visual.transformer.resblocks), patches, width, self.width)

    def image_encoder(self, request: Request = DEFAULT) -> str:
        """What is computed with the weights, in words: two encodings that differ here give different features."""
        block = self.clip.visual.transformer.resblocks[0]
        activation = type(block.mlp.gelu).__name__
        own = f"version {ENCODER_VERSION}, {activation}, {block.attn.num_heads} heads, patch {self.patch_size}"
        return own + request.words()

    def encode_image(self, images: Images, request: Request = DEFAULT) -> Features:
        """Global and patch features in fp32, without gradient; see `clip.image_encoder` and `clip.windows`."""
        return self.encode_images(images, [request])[0]

    def encode_images(self, images: Images, requests: Sequence[Request]) -> list[Features]:
        """The same for several requests, by one pass through the tower for all that agree about what it computes."""
        found: dict[Request, Features] = {}
        passes: dict[tuple[TowerActivation, str, bool], list[FeatureRequest]] = {}
        for request in dict.fromkeys(requests):
            if isinstance(request, WindowRequest):
                found[request] = window_features(self.clip.visual, images, request.sides)
                continue
            # Alone or in company, a request gets the same bits: who needs the whole last block is served apart.
            whole = request.reads_original(len(self.clip.visual.transformer.resblocks))
            passes.setdefault((request.activation, request.positions, whole), []).append(request)
        for (activation, *_), agreed in passes.items():
            found |= zip(agreed, self._encoder(activation).encode(images, agreed), strict=True)
        return [found[request] for request in requests]

    def _encoder(self, activation: TowerActivation) -> ImageEncoder:
        visual, known = self.clip.visual, self._encoders.get(activation)
        if known is None or known.device != visual.conv1.weight.device:
            known = self._encoders[activation] = ImageEncoder(visual, self.precision, self.compiled, activation)
        return known

    def encode_prompts(
        self,
        prefix: Float[Tensor, "n t1 d"],
        suffix: Float[Tensor, "n m t2 d"],
        deep: Sequence[Float[Tensor, "n c d"]],
        ends: Int[Tensor, "n m"] | None = None,
        exact_gelu: bool = False,
    ) -> Float[Tensor, "n m d"]:
        """Features of prompts given as embeddings; see `text_encoder.encode_prompts`."""
        return encode_prompts(self.clip, prefix, suffix, deep, ends, exact_gelu)

    def frame_tokens(self) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Embeddings of SOT, "." and EOT, the fixed tokens of every prompt."""
        table = self.clip.token_embedding.weight
        return table[-2], table[PERIOD_TOKEN], table[-1]


def extractor_heads(width: int) -> int | None:
    """Heads of the prototype extractor: the released 12 where they divide the width, 8 for the 512 of ViT-B."""
    if width % HEADS == 0:
        return HEADS
    return HEADS_AT_512 if width == 512 else None


SUITABLE = (
    "Use an open_clip ViT with CLIP's own text tower, whose text width equals its embedding width and divides by 12 "
    "(or is 512), such as ViT-L-14-336-quickgelu, ViT-L-14-quickgelu or ViT-B-16-quickgelu."
)


def refuse_unsuitable(clip: nn.Module, name: str) -> None:
    """Raise WeightsError with the reason if CoPS cannot use this model."""
    reason = _unsuitable(clip)
    if reason:
        raise WeightsError(f"{name} cannot carry CoPS: {reason}. {SUITABLE}")


def _unsuitable(clip: nn.Module) -> str | None:
    if not isinstance(clip, CLIP):
        return f"it is a {type(clip).__name__} whose text tower is not CLIP's own"
    visual, text = clip.visual, clip.transformer
    if not isinstance(visual, VisionTransformer):
        return f"its image tower is a {type(visual).__name__}, not a ViT"
    blocks = [*visual.transformer.resblocks, *text.resblocks]
    if any(type(block) is not ResidualAttentionBlock or not isinstance(block.ls_1, nn.Identity) for block in blocks):
        return "its transformer blocks are not CLIP's plain ones"
    if visual.attn_pool is not None or visual.pool_type != "tok" or isinstance(visual.ln_pre, nn.Identity):
        return "its image tower has no class token with ln_pre as CLIP's has"
    if visual.patch_size[0] != visual.patch_size[1] or visual.grid_size[0] != visual.grid_size[1]:
        return "its patches or patch grid are not square"
    if not isinstance(clip.text_projection, nn.Parameter) or clip.text_pool_type != "argmax" or clip.attn_mask is None:
        return "its text tower is not causal with a feature read at EOT"
    width, embedding = clip.ln_final.weight.shape[0], clip.text_projection.shape[1]
    if width != embedding:
        return f"its text width {width} differs from its embedding width {embedding}"
    if extractor_heads(embedding) is None:
        return f"its embedding width {embedding} does not divide by the {HEADS} heads of the prototype extractor"
    if clip.positional_embedding.shape[0] < PROMPT_POSITIONS:
        return f"its context of {clip.positional_embedding.shape[0]} tokens is below the {PROMPT_POSITIONS} of a prompt"
    return None


def architecture_of(state: StateDict) -> dict[str, Any]:
    """open_clip's model configuration for an OpenAI-format state dict, read off the shapes; heads are width / 64.

    Raises WeightsError if the keys are not those of an OpenAI ViT.
    """
    try:
        vision_width, _, patch, _ = state["visual.conv1.weight"].shape
        text_width = state["ln_final.weight"].shape[0]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        vision_hidden = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        text_hidden = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        return {
            "embed_dim": state["text_projection"].shape[1],
            "vision_cfg": {
                "image_size": patch * grid,
                "patch_size": patch,
                "width": vision_width,
                "layers": _count_blocks(state, "visual.transformer.resblocks."),
                "head_width": 64,
                "mlp_ratio": vision_hidden / vision_width,
            },
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": text_width,
                "heads": max(1, text_width // 64),
                "layers": _count_blocks(state, "transformer.resblocks."),
                "mlp_ratio": text_hidden / text_width,
            },
            "quick_gelu": True,
        }
    except KeyError as error:
        raise WeightsError(
            f"These weights are not an OpenAI-format CLIP with a ViT: {error.args[0]} is missing among {len(state)} "
            f"keys (first: {next(iter(state), 'none')}). Expected the state dict of one of OpenAI's ViT models."
        ) from None


def _count_blocks(state: StateDict, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def build_clip(architecture: dict[str, Any], state: StateDict, record: BackboneRecord, **options: Any) -> FrozenClip:
    """CLIP of this open_clip model configuration with these weights, frozen; `options` are those of `FrozenClip`.

    Raises WeightsError naming the keys that are missing, unexpected or of another shape.
    """
    clip = CLIP(**architecture)
    given = {key: value for key, value in state.items() if key not in ARCHIVE_SIZES and key != "logit_bias"}
    expected = clip.state_dict()
    if problems := mismatches(given, expected, optional=lambda name: name == "logit_scale"):
        raise WeightsError(
            f"The weights from {record.origin} do not fit {record.name}: {problems}. "
            "Give the weights of this model, or name the model that these weights belong to."
        )
    clip.load_state_dict({"logit_scale": expected["logit_scale"], **given})
    return FrozenClip(clip, record, **options)
