"""The method as one module: a frozen CLIP, prompts synthesised from each image, scores and losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.core.seeding import FIXED, image_latents, named_generator, quasi_random_latents
from cops_lightning.core.types import Features, Images, Labels, Latents, Masks, Share, StateDict
from cops_lightning.models.alignment import image_logits, patch_probabilities, prompt_features
from cops_lightning.models.anomaly_map import (
    Distances,
    Prototypes,
    Scores,
    pool_neighbours,
    prototype_distances,
    spatial_weights,
)
from cops_lightning.models.cops.class_tokens import ClassTokens
from cops_lightning.models.cops.losses import (
    count_pixels,
    image_loss,
    kl_loss,
    patch_loss,
    prototype_losses,
    reconstruction_loss,
)
from cops_lightning.models.cops.prompt_learner import PromptLearner
from cops_lightning.models.cops.released_format import VAE_ENCODER, recognise, write_released
from cops_lightning.models.cops.settings import Components, Preset, Readings, Sizes, find_preset
from cops_lightning.models.cops.state_tokens import StateTokens
from cops_lightning.models.detector import TrainableDetector

NOISE, LATENTS = "noise", "latents"


class Alignment(NamedTuple):
    """What the forward pass computes, and all that scores and losses read.

    `text` holds unit features of the normal and the anomalous prompt, `image_logits` the image's cosines with them over
    the temperature, `patch_probabilities` the softmax of the patches' cosines. `prototypes`, and the patches'
    `distances` from them, are None without state tokens.
    """

    text: Float[Tensor, "b 2 d"]
    image_logits: Float[Tensor, "b 2"]
    patch_probabilities: Float[Tensor, "b p 2"]
    prototypes: Prototypes | None
    distances: Distances | None


class Reasons(NamedTuple):
    """What a score is made of: nothing else enters it.

    `image` is the probability that the whole image is anomalous, `local` that of each patch. `weights`, which follow
    from the patches' `distances` from prototypes, multiply it to `patch`; both are None where the components leave them
    out.
    """

    image: Float[Tensor, " b"]
    local: Float[Tensor, "b p"]
    distances: Distances | None
    weights: Float[Tensor, "b p"] | None
    patch: Float[Tensor, "b p"]


class CoPS(TrainableDetector):
    """Conditional prompt synthesis over a frozen CLIP.

    Raises ConfigError for an unknown preset, or if the image size does not divide by the backbone's patch size.

    Args:
        backbone: the frozen CLIP.
        preset: how it is trained and scored, or the name of a preset in conf/preset.
        image_size: side of images in pixels; None is the backbone's.
        components: which parts are there; None is all.
        readings: where the released program and another reading differ; None is the released one throughout.
        sizes: how many tokens of each kind; None is the released numbers.
        seed: decides the fresh weights, the draws of training and those of testing.
    """

    def __init__(
        self,
        backbone: FrozenClip,
        preset: Preset | str = "visa",
        *,
        image_size: int | None = None,
        components: Components | None = None,
        readings: Readings | None = None,
        sizes: Sizes | None = None,
        seed: int = 0,
    ) -> None:
        preset = find_preset(preset) if isinstance(preset, str) else preset
        readings = readings or Readings()
        super().__init__(backbone, image_size, readings.upsampling)
        self.preset, self.readings, self.seed = preset, readings, seed
        self.components, self.sizes = components or Components(), sizes or Sizes()
        self._fixed: Float[Tensor, "m d"] | None = None
        size, parts, width = self.sizes, self.components, backbone.width
        deep_layers = backbone.deep_layers if size.deep_layers is None else size.deep_layers
        self.states = StateTokens(width, backbone.extractor_heads, size.prototypes) if parts.states else None
        self.classes = ClassTokens(width) if parts.classes else None
        self.prompt_learner = PromptLearner(
            backbone.frame_tokens(),
            size.prototypes,
            size.context,
            size.classes,
            deep_layers if parts.deep_prompts else 0,
            size.deep_tokens,
        )
        self.reset_parameters()

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
        """Everything that trains, under its released name."""
        for part in (self.prompt_learner, self.states, self.classes):
            if part is not None:
                yield from part.named_parameters()

    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the released format: a file, or a mapping of released names; vae_encoder.* may be absent.

        Raises CheckpointError for another method's file, and naming missing and unexpected keys and wrong shapes; then
        nothing was loaded.
        """
        origin, given, _ = self.read_released(weights, recognise)
        self._fill(given, origin, lambda name: name.startswith(VAE_ENCODER))

    def save_released(self, path: str | Path) -> None:
        """Write the released checkpoint format; see `released_format`."""
        write_released(Path(path), self.released_parameters())

    # ---- the method

    def prepared(self, raw: Features) -> Features:
        """The backbone's features with patches averaged over the preset's neighbourhood."""
        return Features(raw.image, pool_neighbours(raw.patches, self.preset.pool))

    def forward(
        self,
        features: Features,
        biases: Float[Tensor, "b m d"] | None,
        text: Float[Tensor, "1 2 d"] | None = None,
    ) -> Alignment:
        """How images and their patches agree with the prompts that are synthesised from them.

        `features` are those of `encode`, `biases` the class tokens' (None without class tokens). `text` are the
        features of prompts that depend on no image, where they are at hand.
        """
        prototypes = None if self.states is None else self.states(features.patches)
        text = self.text_features(prototypes, biases) if text is None else text
        text = text.expand(features.image.shape[0], -1, -1)
        return Alignment(
            text,
            image_logits(features.image, text),
            patch_probabilities(features.patches, text),
            prototypes,
            None if prototypes is None else prototype_distances(features.patches, prototypes),
        )

    def text_features(
        self, prototypes: Prototypes | None, biases: Float[Tensor, "b m d"] | None
    ) -> Float[Tensor, "b 2 d"]:
        """Unit features of the normal and the anomalous prompt of every image. Prototypes take no gradient here.

        Without prototypes and biases the prompts depend on no image: b is 1.
        """
        filled = None if prototypes is None else torch.stack(prototypes, dim=1).detach()
        prompts = self.prompt_learner(filled, biases, self.readings.states)
        prefix, suffix = prompts.prefix.flatten(0, 1), prompts.suffix.flatten(0, 1)
        deep = self.prompt_learner.deep(prefix.shape[0], self.readings.deep)
        encoded = self.backbone.encode_prompts(prefix, suffix, deep)
        return prompt_features(encoded.view(-1, 2, *encoded.shape[1:]))

    # ---- scores

    def draw_latents(self, names: Sequence[str], device: torch.device | str = "cpu") -> Latents:
        """Class samples' latents of images with these names, on `device`; of images called `FIXED`, one set for all."""
        samples, width, reading = self.sizes.class_samples, self.backbone.width, self.readings.latents
        if reading == "fixed" or set(names) == {FIXED}:
            return self.fixed_latents.to(device).expand(len(names), -1, -1)
        if reading == "zero":
            return torch.zeros(len(names), samples, width, device=device)
        if reading == "global":
            return torch.randn(len(names), samples, width, device=device)
        return image_latents(self.seed, names, samples, width).to(device)

    @property
    def fixed_latents(self) -> Float[Tensor, "m d"]:
        """The one set of draws for all images: that of the checkpoint, else that of the seed."""
        if self._fixed is None:
            self._fixed = quasi_random_latents(self.seed, self.sizes.class_samples, self.backbone.width)
        return self._fixed

    def fixed_draws(self) -> dict[str, Tensor]:
        """The draws that a checkpoint holds; none without class tokens."""
        return {} if self.classes is None else {LATENTS: self.fixed_latents}

    def load_fixed_draws(self, draws: Mapping[str, Tensor]) -> None:
        """Take those of a checkpoint, unless it has another number of them: then those of the seed are used.

        Raises CheckpointError where they are of another width or not finite.
        """
        given = draws.get(LATENTS)
        if given is None or self.classes is None or len(given) != self.sizes.class_samples:
            return
        if given.shape[1:] != (self.backbone.width,) or not given.isfinite().all():
            raise CheckpointError(
                f"The checkpoint's fixed latents have shape {tuple(given.shape)}, or are not finite; expected finite "
                f"values, {self.backbone.width} in a row. It is damaged; use an earlier one."
            )
        self._fixed = given.float()

    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them.

        They are functions of the features, the seed and `names`, by which class samples are drawn. `categories` are not
        looked at.
        """
        latents = None if self.classes is None else self.draw_latents(names, features.patches.device)
        return self.score_drawn(features, latents)

    @torch.no_grad()
    def score_drawn(
        self, features: Features, latents: Latents | None, text: Float[Tensor, "1 2 d"] | None = None
    ) -> Scores:
        """Anomaly scores from features and given draws from the standard normal; None without class tokens.

        `text` as in `forward`.
        """
        found = self.reasons(features, latents, text)
        beta = self.image_share
        image = beta * found.image + (1 - beta) * found.patch.amax(dim=1)
        return Scores(image=image, patch=found.patch, expand=self.expand)

    @torch.no_grad()
    def graph_scores(self) -> Callable[[Features], Scores]:
        """See `FeatureDetector.graph_scores`. Raises ConfigError where a score depends on the images beside it."""
        if self.readings.distance_range == "batch":
            raise ConfigError(
                "With readings.distance_range=batch a score depends on the other images of its batch, so a file would "
                "score an image differently in every batch. Export with readings.distance_range=image."
            )
        latents = None if self.classes is None else self.draw_latents([FIXED])
        text = self.text_features(None, None) if self.states is None and latents is None else None
        if latents is None:
            return lambda features: self.score_drawn(features, None, text)
        return lambda features: self.score_drawn(features, latents.expand(features.image.shape[0], -1, -1))

    @property
    def image_share(self) -> float:
        """The share of an image's score that is the whole image's; the rest is its highest patch's."""
        return {"mixed": self.preset.beta, "global": 1.0, "local": 0.0}[self.components.image_score]

    @torch.no_grad()
    def reasons(
        self, features: Features, latents: Latents | None, text: Float[Tensor, "1 2 d"] | None = None
    ) -> Reasons:
        """What the scores of images are made of; see `score_drawn`."""
        biases = None if self.classes is None or latents is None else self.classes.prior_bias(latents)
        found = self(features, biases, text)
        local, weights = found.patch_probabilities[..., 1], None
        if found.distances is not None and self.components.spatial_weights:
            weights = spatial_weights(found.distances, self.preset.alpha, self.readings.distance_range)
        image = found.image_logits.softmax(dim=-1)[:, 1]
        return Reasons(image, local, found.distances, weights, local if weights is None else local * weights)

    # ---- training

    def training_draws(self, names: Sequence[str], epoch: int, step: int = 0) -> dict[str, Tensor]:
        """The VAE's noise, shape (b, d), a function of (seed, epoch, name of the image); none without class tokens."""
        if self.classes is None:
            return {}
        generators = (named_generator(self.seed, "vae", epoch, name) for name in names)
        return {NOISE: torch.stack([torch.randn(self.backbone.width, generator=one) for one in generators])}

    def losses(
        self,
        given: Images | Features,
        masks: Masks | None,
        labels: Labels,
        draws: Mapping[str, Tensor] | None = None,
        share: Share | None = None,
        *,
        categories: Sequence[str] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses: total = image + 4 patch + gather + scatter + kl + recon, and each of these parts.

        `recon` carries the preset's weight, so it is 0 for the VisA preset. Without masks patch, gather and scatter are
        undefined: they are absent from the result and from the total, as are the losses of components left out. See
        `TrainableDetector.losses`.
        """
        features = self.features_of(given)
        parts: dict[str, Float[Tensor, ""]] = {}
        biases = None
        if self.classes is not None:
            noise = self.drawn_for(given, draws)[NOISE]
            biases, posterior = self.classes.posterior_bias(features.image, noise)
            parts["kl"] = kl_loss(posterior.mean, posterior.log_var)
            pairs = features.image if share is None or self.readings.recon == "matched" else share.images
            recon = reconstruction_loss(pairs, biases[:, 0], self.readings.recon)
            parts["recon"] = self.preset.recon_weight * recon
        found = self(features, biases)
        parts["image"] = image_loss(found.image_logits, labels)
        if masks is not None:
            counts = count_pixels(masks, self.backbone.patch_size)
            parts["patch"] = patch_loss(found.patch_probabilities, counts)
            if found.distances is not None:
                parts["gather"], parts["scatter"] = prototype_losses(found.distances, counts)
        if share is not None:
            parts = {name: share.weights[name] * loss for name, loss in parts.items()}
        total = torch.stack([4 * loss if name == "patch" else loss for name, loss in parts.items()]).sum()
        return {"total": total, **parts}
