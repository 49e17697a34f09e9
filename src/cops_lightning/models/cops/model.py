"""The method as one module: a frozen CLIP, prompts synthesised from each image, scores and losses."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.weights import clip_from_state, read_state
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.core.files import replacing
from cops_lightning.core.seeding import image_latents, named_generator
from cops_lightning.core.types import Features, Images, Labels, Latents, Masks, Noise, Share, StateDict
from cops_lightning.core.weights import mismatches
from cops_lightning.models.alignment import image_logits, patch_probabilities, prompt_features
from cops_lightning.models.anomaly_map import (
    DistanceRange,
    Prototypes,
    Scores,
    Upsampling,
    prototype_distances,
    spatial_weights,
)
from cops_lightning.models.cops.class_tokens import ImplicitClasses
from cops_lightning.models.cops.losses import (
    ReconReading,
    count_pixels,
    image_loss,
    kl_loss,
    patch_loss,
    prototype_losses,
    reconstruction_loss,
)
from cops_lightning.models.cops.prompt_learner import DeepReading, PromptScaffold, StateReading
from cops_lightning.models.cops.state_tokens import ExplicitStates
from cops_lightning.models.detector import FeatureDetector


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


ImageScore = Literal["mixed", "global", "local"]


@dataclass(frozen=True)
class Components:
    """Which parts of CoPS are there; an ablation takes one away, with its computation, parameters and losses.

    states: explicit state tokens (ESTS). Without them there is no extractor, no gather and no scatter loss, and, for
        want of prototypes, no spatial weighting; the learnt state tokens of the prompts stay as they are.
    classes: implicit class tokens (ICTS). Without them there is no VAE, no kl and no recon loss and no draw.
    spatial_weights: patch scores are weighted by the distances to the prototypes.
    image_score: "mixed" is beta * global + (1 - beta) * highest patch score; "global" and "local" are either alone.
        Where the preset's beta is 1, "mixed" and "global" agree.
    deep_prompts: learnt tokens inside the text tower.

    Without states and classes the prompts are the same for every image: static, object-agnostic learnt prompts, the
    idea of AnomalyCLIP (arXiv 2310.18961), on the backbone, losses and maps of CoPS.
    """

    states: bool = True
    classes: bool = True
    spatial_weights: bool = True
    image_score: ImageScore = "mixed"
    deep_prompts: bool = True

    def __post_init__(self) -> None:
        if self.image_score not in get_args(ImageScore):
            raise ConfigError(
                f"components.image_score is {self.image_score!r}; expected {' or '.join(get_args(ImageScore))}."
            )


@dataclass(frozen=True)
class Sizes:
    """How many tokens of each kind a prompt has, and how many class samples an image gets at inference."""

    prototypes: int = 6
    context: int = 6
    classes: int = 2
    deep_layers: int = 8
    deep_tokens: int = 4
    class_samples: int = 10


class CoPS(FeatureDetector):
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
        components: Components | None = None,
    ) -> None:
        readings = readings or Readings()
        super().__init__(backbone, image_size, readings.upsampling, preset.pool)
        self.preset, self.seed = preset, seed
        self.readings, self.sizes = readings, sizes or Sizes()
        self.components = components or Components()
        s, parts = self.sizes, self.components
        width = backbone.width
        self.states = ExplicitStates(width, backbone.extractor_heads, s.prototypes) if parts.states else None
        self.classes = ImplicitClasses(width) if parts.classes else None
        deep_layers = s.deep_layers if parts.deep_prompts else 0
        self.scaffold = PromptScaffold(
            backbone.frame_tokens(), s.prototypes, s.context, s.classes, deep_layers, s.deep_tokens
        )
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
        components: Components | None = None,
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
        model = cls(backbone, PRESETS[auxiliary], image_size, readings, seed=seed, components=components)
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
            if part is not None:
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

    def text_features(
        self, prototypes: Prototypes | None, biases: Float[Tensor, "b m d"] | None
    ) -> Float[Tensor, "b 2 d"]:
        """Unit features of the normal and the anomalous prompt of every image. Prototypes take no gradient here.

        Without prototypes and biases the prompts depend on no image: b is 1.
        """
        filled = None if prototypes is None else torch.stack(prototypes, dim=1).detach()
        prompts = self.scaffold(filled, biases, self.readings.states)
        prefix, suffix = prompts.prefix.flatten(0, 1), prompts.suffix.flatten(0, 1)
        encoded = self.backbone.encode_prompts(prefix, suffix, self.scaffold.deep(len(prefix), self.readings.deep))
        return prompt_features(encoded.view(-1, 2, *encoded.shape[1:]))

    @torch.no_grad()
    def score(
        self,
        images: Images,
        latents: Latents | None = None,
        keys: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Scores:
        """Anomaly scores of preprocessed images.

        `latents` are draws from the standard normal, M per image. Without them they are drawn from a generator named
        after each image's key; without `keys` the image's own pixels are its key. So a score depends on its image and
        the seed alone. The images' `categories` are not looked at: CoPS is told no names.
        """
        if latents is None and keys is None and self.classes is not None:
            keys = content_keys(images)
        return self.score_features(self.encode(images), latents, keys, categories)

    def draw_latents(self, keys: Sequence[str], device: torch.device | str = "cpu") -> Latents:
        """Class samples' latents of images with these names, on `device`; see `score`."""
        samples, width = self.sizes.class_samples, self.backbone.width
        if self.readings.latents == "global":
            return torch.randn(len(keys), samples, width, device=device)
        return image_latents(self.seed, tuple(keys), samples, width).to(device)

    @torch.no_grad()
    def score_features(
        self,
        features: Features,
        latents: Latents | None = None,
        keys: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them; see `score`.

        Raises ValueError if class samples are to be drawn and there are neither `latents` nor `keys`.
        """
        patches, parts = features.patches, self.components
        biases = None
        if self.classes is not None:
            if latents is None:
                if keys is None:
                    raise ValueError("Class samples need a source: give latents, or keys that name the images.")
                latents = self.draw_latents(keys, patches.device)
            biases = self.classes.prior_bias(latents)
        prototypes = None if self.states is None else self.states(patches)
        text = self.text_features(prototypes, biases).expand(len(patches), -1, -1)
        patch = patch_probabilities(patches, text)[..., 1]
        if prototypes is not None and parts.spatial_weights:
            distances = prototype_distances(patches, prototypes)
            patch = patch * spatial_weights(distances, self.preset.alpha, self.readings.distance_range)
        beta = {"mixed": self.preset.beta, "global": 1.0, "local": 0.0}[parts.image_score]
        image = image_logits(features.image, text).softmax(dim=-1)[:, 1]
        return Scores(image=beta * image + (1 - beta) * patch.amax(dim=1), patch=patch, expand=self.expand)

    def losses(
        self, images: Images, masks: Masks | None, labels: Labels, noise: Noise | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses: total = image + 4 patch + gather + scatter + kl + recon, and each of these parts.

        `recon` carries the preset's weight, so it is 0 for the VisA preset. Without masks patch, gather and scatter are
        undefined: they are absent from the result and from the total, as are the losses of components left out.
        `noise` is the VAE's standard normal draw; without it, it comes from torch's global generator.
        """
        if noise is None:
            noise = torch.randn(len(images), self.backbone.width, device=images.device)
        return self.losses_of_features(self.encode(images), masks, labels, noise)

    def losses_of_features(
        self, features: Features, masks: Masks | None, labels: Labels, noise: Noise, share: Share | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses from features, as `encode` gives them; see `losses`.

        With `share` they are this process's contributions to the losses of a batch that several processes share.
        """
        parts: dict[str, Float[Tensor, ""]] = {}
        prototypes = None if self.states is None else self.states(features.patches)
        biases = None
        if self.classes is not None:
            biases, posterior = self.classes.posterior_bias(features.image, noise)
            parts["kl"] = kl_loss(posterior.mean, posterior.log_var)
            pairs = features.image if share is None or self.readings.recon == "matched" else share.images
            recon = reconstruction_loss(pairs, biases[:, 0], self.readings.recon)
            parts["recon"] = self.preset.recon_weight * recon
        text = self.text_features(prototypes, biases).expand(len(features.image), -1, -1)
        parts["image"] = image_loss(image_logits(features.image, text), labels)
        if masks is not None:
            counts = count_pixels(masks, self.backbone.patch_size)
            parts["patch"] = patch_loss(patch_probabilities(features.patches, text), counts)
            if prototypes is not None:
                distances = prototype_distances(features.patches, prototypes)
                parts["gather"], parts["scatter"] = prototype_losses(distances, counts)
        if share is not None:
            parts = {name: share.weights[name] * loss for name, loss in parts.items()}
        total = torch.stack([4 * loss if name == "patch" else loss for name, loss in parts.items()]).sum()
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
