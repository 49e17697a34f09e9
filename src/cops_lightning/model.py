"""The method as one module: a frozen CLIP, prompts synthesised from each image, scores and losses."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.backbone.clip import FrozenClip
from cops_lightning.backbone.weights import clip_from_state, read_state
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.core.files import replacing
from cops_lightning.core.seeding import image_latents, named_generator
from cops_lightning.core.types import Features, Images, Labels, Latents, Masks, Noise, StateDict
from cops_lightning.core.weights import mismatches
from cops_lightning.prompts.classes import ImplicitClasses
from cops_lightning.prompts.states import ExplicitStates
from cops_lightning.prompts.synthesis import DeepReading, PromptScaffold, StateReading
from cops_lightning.scoring.alignment import image_logits, patch_probabilities, prompt_features
from cops_lightning.scoring.losses import (
    ReconReading,
    count_pixels,
    image_loss,
    kl_loss,
    patch_loss,
    prototype_losses,
    reconstruction_loss,
)
from cops_lightning.scoring.maps import (
    DistanceRange,
    Scores,
    SmoothUpsampler,
    Upsampling,
    pool_neighbours,
    prototype_distances,
    spatial_weights,
)


@dataclass(frozen=True)
class Preset:
    """What the authors chose per auxiliary dataset (the one trained on).

    `pool` side of the patch neighbourhood, odd; `alpha` in [0, 1] weight of the distance to normal prototypes;
    `beta` in [0, 1] weight of the global score; `recon_weight` >= 0 of the reconstruction loss.
    """

    pool: int
    alpha: float
    beta: float
    recon_weight: float

    def __post_init__(self) -> None:
        if self.pool < 1 or self.pool % 2 == 0:
            raise ConfigError(f"pool is {self.pool}; expected an odd number of patches, such as 3 or 5.")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a weight from 0 to 1.")


PRESETS = {
    "visa": Preset(pool=5, alpha=0.26, beta=0.9, recon_weight=0.0),
    "mvtec": Preset(pool=3, alpha=0.35, beta=1.0, recon_weight=1.0),
}


@dataclass(frozen=True)
class Readings:
    """Where the released program and another sound reading differ. The defaults give the released numbers.

    recon: reconstruction over all pairs of images and decodings, or over "matched" pairs.
    states: anomalous prototypes go to the normal prompt and vice versa, or each to its own ("matched").
    deep: deep tokens rounded to half precision, or "exact".
    upsampling: of patch scores to pixels.
    distance_range: min and max of distances over each image, or over the batch, as the released program does; both
        agree at its batch size of 1.
    latents: test-time draws keyed by image, or from torch's "global" generator, as the released program does.
    """

    recon: ReconReading = "released"
    states: StateReading = "released"
    deep: DeepReading = "released"
    upsampling: Upsampling = "nearest"
    distance_range: DistanceRange = "image"
    latents: Literal["image", "global"] = "image"

    def __post_init__(self) -> None:
        for option in fields(self):
            value, allowed = getattr(self, option.name), get_args(option.type)
            if value not in allowed:
                raise ConfigError(f"readings.{option.name} is {value!r}; expected {' or '.join(allowed)}.")


@dataclass(frozen=True)
class Sizes:
    """How many tokens of each kind a prompt has, and how many class samples an image gets at inference."""

    prototypes: int = 6
    context: int = 6
    classes: int = 2
    deep_layers: int = 8
    deep_tokens: int = 4
    class_samples: int = 10


class CoPS(nn.Module):
    """Conditional prompt synthesis over a frozen CLIP.

    `seed` decides the fresh weights and the test-time draws. Raises ConfigError if `image_size` does not divide by the
    backbone's patch size.
    """

    def __init__(
        self,
        backbone: FrozenClip,
        preset: Preset,
        image_size: int,
        readings: Readings | None = None,
        sizes: Sizes | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        patch = backbone.patch_size
        if image_size % patch or image_size < patch:
            raise ConfigError(
                f"image_size is {image_size}, which the patch size {patch} of {backbone.record.name} does not divide; "
                f"use {max(1, image_size // patch) * patch} or {(image_size // patch + 1) * patch}."
            )
        self.backbone = backbone
        self.preset, self.image_size, self.seed = preset, image_size, seed
        self.readings, self.sizes = readings or Readings(), sizes or Sizes()
        s = self.sizes
        self.states = ExplicitStates(backbone.width, backbone.extractor_heads, s.prototypes)
        self.classes = ImplicitClasses(backbone.width)
        self.scaffold = PromptScaffold(
            backbone.frame_tokens(), s.prototypes, s.context, s.classes, s.deep_layers, s.deep_tokens
        )
        self.expand = SmoothUpsampler(image_size // patch, patch, self.readings.upsampling)
        self.reset_parameters()

    @classmethod
    def from_released(
        cls,
        clip: StateDict | str | Path,
        weights: StateDict | str | Path | None,
        auxiliary: str,
        image_size: int,
        readings: Readings | None = None,
        seed: int = 0,
    ) -> "CoPS":
        """The model of a released checkpoint.

        `clip` is an OpenAI-format CLIP state dict or a file with one; `weights` a released checkpoint file, a mapping
        with the released names (vae_encoder.* may be left out: it is drawn fresh), or None for fresh weights;
        `auxiliary` "visa" or "mvtec", the dataset trained on, picks the preset.

        Raises WeightsError, CheckpointError or ConfigError, each saying what was found and what was expected.
        """
        if auxiliary not in PRESETS:
            raise ConfigError(f"auxiliary is {auxiliary!r}; expected one of {', '.join(PRESETS)}.")
        backbone = clip_from_state(clip)
        model = cls(backbone, PRESETS[auxiliary], image_size, readings, seed=seed)
        if weights is not None:
            model.load_released(weights)
        return model

    # ---- weights

    def reset_parameters(self) -> None:
        """Fresh weights as released: N(0, 0.02), biases 0, LayerNorm 1 and 0, attention in_proj Xavier uniform.

        Every tensor has a generator of its own name, so it depends neither on the backbone nor on other sizes.
        """
        with torch.no_grad():
            for name, parameter in self.released_parameters():
                generator = named_generator(self.seed, "init", name)
                if name.endswith("bias"):
                    parameter.zero_()
                elif ".ln_" in name:
                    parameter.fill_(1)
                elif name.endswith("in_proj_weight"):
                    nn.init.xavier_uniform_(parameter, generator=generator)
                else:
                    parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    def released_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that trains, under its name in the released checkpoint (the VAE encoder is not stored there)."""
        for part in (self.scaffold, self.states, self.classes):
            yield from part.named_parameters()

    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the released format: a file, or a mapping of released names; vae_encoder.* may be absent.

        Raises CheckpointError naming missing and unexpected keys and wrong shapes; then nothing was loaded.
        """
        origin = "the mapping" if not isinstance(weights, str | Path) else str(weights)
        read = _read_released(Path(weights)) if isinstance(weights, str | Path) else weights
        given = {name: torch.as_tensor(value) for name, value in read.items()}
        own = dict(self.released_parameters())
        if problems := mismatches(given, own, optional=lambda name: name.startswith("vae_encoder.")):
            raise CheckpointError(
                f"{origin} does not fit this model: {problems}. Expected the released names for embedding width "
                f"{self.backbone.width}; use the backbone and sizes that the checkpoint was made with."
            )
        with torch.no_grad():
            for name, value in given.items():
                own[name].copy_(value)

    def save_released(self, path: str | Path) -> None:
        """Write the released checkpoint format, atomically. The VAE encoder is left out, as inference needs none."""
        state = {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.released_parameters()
            if not name.startswith("vae_encoder.")
        }
        with replacing(Path(path)) as partial:
            torch.save({"prompt_learner": state}, partial)

    # ---- the method

    def encode(self, images: Images) -> Features:
        """Features of the frozen backbone, patches averaged over their neighbourhood."""
        raw = self.backbone.encode_image(images)
        return Features(raw.image, pool_neighbours(raw.patches, self.preset.pool))

    def text_features(
        self, prototypes: Float[Tensor, "b 2 k d"], biases: Float[Tensor, "b m d"]
    ) -> Float[Tensor, "b 2 d"]:
        """Unit features of the normal and the anomalous prompt of every image. Prototypes take no gradient here."""
        prompts = self.scaffold(prototypes.detach(), biases, self.readings.states)
        encoded = self.backbone.encode_prompts(
            prompts.prefix.flatten(0, 1), prompts.suffix.flatten(0, 1), self.scaffold.deep(self.readings.deep)
        )
        return prompt_features(encoded.view(-1, 2, *encoded.shape[1:]))

    @torch.no_grad()
    def score(self, images: Images, latents: Latents | None = None, keys: Sequence[str] | None = None) -> Scores:
        """Anomaly scores of preprocessed images.

        `latents` are draws from the standard normal, M per image. Without them they are drawn from a generator named
        after each image's key; without `keys` the image's own pixels are its key. So a score depends on its image and
        the seed alone.
        """
        if latents is None:
            latents = self.draw_latents(images, keys)
        return self.score_features(self.encode(images), latents)

    def draw_latents(self, images: Images, keys: Sequence[str] | None = None) -> Latents:
        """Class samples' latents for a batch, on its device; see `score`."""
        shape = (len(images), self.sizes.class_samples, self.backbone.width)
        if self.readings.latents == "global":
            return torch.randn(shape, device=images.device)
        names = tuple(keys) if keys is not None else content_keys(images)
        return image_latents(self.seed, names, *shape[1:]).to(images.device)

    def score_features(self, features: Features, latents: Latents) -> Scores:
        """Anomaly scores from features, as `encode` gives them."""
        prototypes = self.states(features.patches)
        text = self.text_features(prototypes, self.classes.prior_bias(latents))
        distances = prototype_distances(features.patches, prototypes)
        weights = spatial_weights(distances, self.preset.alpha, self.readings.distance_range)
        patch = patch_probabilities(features.patches, text)[..., 1] * weights
        image = image_logits(features.image, text).softmax(dim=-1)[:, 1]
        beta = self.preset.beta
        return Scores(image=beta * image + (1 - beta) * patch.amax(dim=1), patch=patch, expand=self.expand)

    def losses(
        self, images: Images, masks: Masks | None, labels: Labels, noise: Noise | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses: total = image + 4 patch + gather + scatter + kl + recon, and each of these parts.

        `recon` carries the preset's weight, so it is 0 for the VisA preset. Without masks patch, gather and scatter are
        undefined: they are absent from the result and from the total.
        `noise` is the VAE's standard normal draw; without it, it comes from torch's global generator.
        """
        if noise is None:
            noise = torch.randn(len(images), self.backbone.width, device=images.device)
        return self.losses_of_features(self.encode(images), masks, labels, noise)

    def losses_of_features(
        self, features: Features, masks: Masks | None, labels: Labels, noise: Noise
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses from features, as `encode` gives them; see `losses`."""
        prototypes = self.states(features.patches)
        biases, posterior = self.classes.posterior_bias(features.image, noise)
        text = self.text_features(prototypes, biases)
        parts = {
            "image": image_loss(image_logits(features.image, text), labels),
            "kl": kl_loss(posterior.mean, posterior.log_var),
            "recon": self.preset.recon_weight * reconstruction_loss(features.image, biases[:, 0], self.readings.recon),
        }
        total = parts["image"] + parts["kl"] + parts["recon"]
        if masks is not None:
            counts = count_pixels(masks, self.backbone.patch_size)
            parts["patch"] = patch_loss(patch_probabilities(features.patches, text), counts)
            distances = prototype_distances(features.patches, prototypes)
            parts["gather"], parts["scatter"] = prototype_losses(distances, counts)
            total = total + 4 * parts["patch"] + parts["gather"] + parts["scatter"]
        return {"total": total, **parts}


def content_keys(images: Images) -> tuple[str, ...]:
    """A name for each image that depends on its pixels alone."""
    arrays = images.detach().float().cpu().contiguous().numpy()
    return tuple(hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest() for array in arrays)


def _read_released(path: Path) -> StateDict:
    """The tensors of a released checkpoint file."""
    content = read_state(path, CheckpointError)
    inner = content.get("prompt_learner")
    if not isinstance(inner, dict):
        raise CheckpointError(
            f"{path} is not a released CoPS checkpoint: its top-level keys are {', '.join(map(str, content))}, "
            "expected prompt_learner. Give the .pth that the authors publish or that save_released wrote."
        )
    return inner
