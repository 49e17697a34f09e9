"""The method as one module: a frozen CLIP, a bank of prompts moved by flows, scores and losses in two stages."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.request import FeatureRequest
from cops_lightning.clip.tokenizer import tokenizer_of
from cops_lightning.core.seeding import image_latents, named_generator
from cops_lightning.core.types import Features, Images, Labels, Masks, Share, StateDict
from cops_lightning.models.alignment import unit
from cops_lightning.models.anomaly_map import LogitUpsampler, Scores
from cops_lightning.models.bayes_pfl.flows import Latents
from cops_lightning.models.bayes_pfl.losses import divergence, orthogonality, segmentation_losses
from cops_lightning.models.bayes_pfl.prompt_learner import PromptLearner, words_of
from cops_lightning.models.bayes_pfl.released_format import (
    CLIP,
    DEAD,
    recognise,
    stage_of,
    without_copies,
    write_released,
)
from cops_lightning.models.bayes_pfl.settings import Preset, Sizes
from cops_lightning.models.detector import TrainableDetector

CONTEXT, NORMAL, ABNORMAL, PROMPT = "noise_context", "noise_normal", "noise_abnormal", "prompt_index"
ANY = "object"
SIGMA = 8.0
# Categories of whose map few pixels are read, as released; of all others many are.
SMALL = ("capsules", "macaroni1", "macaroni2", "pipe_fryum", "screw", "cashew", "chewinggum")
FEW, MANY = 20, 2000
# Of learning rates, by what a name holds; encoders and all others learn at a tenth.
SCALES = (("temperature", 10.0), ("prompt", 1.0), ("PFL", 1.0))


class Text(NamedTuple):
    """Unit features of all prompts, and the samples of the three flows that they were made with."""

    features: Float[Tensor, "b 2 k d"]
    context: Latents
    normal: Latents
    abnormal: Latents


class BayesPFL(TrainableDetector):
    """Bayesian prompt flow learning over a frozen CLIP (arXiv 2503.10080), to the numbers of the released program.

    Prompts are a bank, moved by samples of three flows: one reads the image, two are of the states. Image score and map
    are means over the bank and the samples. The image score is half the image's probability and half the mean of the
    map's highest pixels, of this image alone; the released one takes the range of both over a category's test images.

    Raises ConfigError for layers that the image tower has not, for a text width that four heads do not divide, or if
    the image size does not divide by the backbone's patch size.

    Args:
        backbone: the frozen CLIP.
        preset: how it is trained; None is ours, as the released program asks the test images when to stop.
        image_size: side of images in pixels; None is the backbone's.
        features_list: layers whose patches are read, counted from 1; None is every quarter of the tower's.
        sample_num: samples of each flow that a score is the mean over.
        sizes: numbers of learnt tokens and steps; None is the released ones.
        stage: by which stage's image score images are scored; a checkpoint says its own.
        seed: decides the fresh weights and all draws.
    """

    request: FeatureRequest

    def __init__(
        self,
        backbone: FrozenClip,
        preset: Preset | None = None,
        *,
        image_size: int | None = None,
        features_list: Sequence[int] | None = None,
        sample_num: int = 10,
        sizes: Sizes | None = None,
        stage: Literal[1, 2] = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, image_size, "bilinear")
        tower = backbone.tower(self.image_size)
        layers = features_list or {max(1, round(tower.blocks * quarter / 4)) for quarter in (1, 2, 3, 4)}
        self.request = FeatureRequest(tuple(layers), None, "tower", True, "gelu", "bicubic antialias")
        self.request.require_blocks(tower.blocks)
        self.preset, self.seed, self.sample_num = preset or Preset(), seed, sample_num
        self.stage: int = stage
        self.training_stage = 1
        self.pairs = LogitUpsampler(self.image_size // backbone.patch_size, self.image_size, SIGMA)
        self.expand = self.pairs  # type: ignore[assignment]
        self._tokenizer, self._tower = tokenizer_of(backbone), tower
        self.prompt_learner = self._learner(sizes or Sizes())
        self.reset_parameters()

    def _learner(self, sizes: Sizes) -> PromptLearner:
        layers = len(self.request.read(self._tower.blocks))
        return PromptLearner(self.backbone.width, self._tower.tower, layers, sizes).to(
            self.backbone.clip.token_embedding.weight.device
        )

    # ---- weights

    def reset_parameters(self) -> None:
        """Fresh weights as released. Every tensor has a generator of its own name."""
        with torch.no_grad():
            for name, parameter in self.released_parameters():
                generator = named_generator(self.seed, "init", name)
                drawn = torch.randn(parameter.shape, generator=generator)
                if name.startswith("temperature"):
                    drawn = torch.full_like(drawn, math.log(1 / 0.07))
                elif name.startswith("prompt_state"):
                    drawn = 0.02 * drawn + (0.5 if name.endswith("_normal") else -0.5)
                elif name.startswith("RCA.q_proj_pre"):
                    bound = self.backbone.width**-0.5
                    drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                elif name.endswith("bias"):
                    drawn = torch.zeros_like(drawn)
                elif not name.startswith(("PFL_normal.", "PFL_abnormal.")) or "p_mu" in name:
                    drawn = 0.02 * drawn
                parameter.copy_(drawn)

    def released_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that the released program trains or keeps, each once, under its released name."""
        yield from self.prompt_learner.named_parameters()

    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the released format: a file, or a mapping of released names that may lack what is never used.

        The sizes of prompts and flows are those of the weights, and so is the stage of a file.

        Raises CheckpointError for another method's file, for one of other layers, of another CLIP as far as a file says
        it, for copies that differ, and naming missing and unexpected keys and wrong shapes; then nothing was loaded.
        """
        origin, given, content = self.read_released(weights, recognise)
        self._require_clip(content.get(CLIP), origin)
        own = without_copies(given, origin)
        context, flows = own.get("prompt_context"), own.get("PFL_context.amor_b.bias")
        states = own.get("prompt_state_normal")
        with self._all_or_nothing():
            if context is not None and states is not None and flows is not None and context.dim() == states.dim() == 3:
                self.prompt_learner = self._learner(Sizes(len(context), context.shape[1], states.shape[1], len(flows)))
            self._fill(own, origin, lambda name: DEAD.match(name) is not None)
        if isinstance(weights, str | Path):
            self.stage = stage_of(content, Path(weights))

    def save_released(self, path: str | Path) -> None:
        """Write the released checkpoint format; see `released_format`."""
        write_released(Path(path), dict(self.released_parameters()), self.stage, self.backbone.record.fingerprint)

    # ---- the method

    def text_features(
        self,
        image: Float[Tensor, "b d"],
        categories: Sequence[str],
        context: Float[Tensor, "b r d"],
        normal: Float[Tensor, "r d"],
        abnormal: Float[Tensor, "r d"],
    ) -> Text:
        """Features of the prompts of images under these draws, of each state the whole bank sample by sample."""
        learner = self.prompt_learner
        flows = (
            learner.PFL_context(image, learner.context_encoder, context),
            learner.PFL_normal(learner.state_encoder, normal),
            learner.PFL_abnormal(learner.state_encoder, abnormal),
        )
        learnt = learner(*(of_flow.z for of_flow in flows))
        b, _, prompts, tokens, width = learnt.shape
        table = self.backbone.clip.token_embedding.weight
        numbers = [torch.tensor([*self._tokenizer.encode(words_of(c)), len(table) - 1]) for c in categories]
        names = table[nn.utils.rnn.pad_sequence(numbers, batch_first=True).to(table.device)]
        names = names[:, None, None].expand(-1, 2, prompts, -1, -1)
        ends = torch.tensor([tokens + len(own) for own in numbers], device=table.device)
        encoded = self.backbone.encode_prompts(
            table[len(table) - 2].view(1, 1, width),
            torch.cat([learnt, names], dim=-2).view(1, b * 2 * prompts, -1, width),
            [],
            ends.repeat_interleave(2 * prompts)[None],
            exact_gelu=True,
        )
        return Text(unit(encoded).view(b, 2, prompts, width), *flows)

    def evidence(self, features: Features, text: Float[Tensor, "b 2 k d"]) -> Float[Tensor, "b l k p"]:
        """Logit of the anomalous prompt of each pair, for every patch of each layer."""
        learner = self.prompt_learner
        found: Tensor = learner.RCA(features.patches, text)
        return learner.temperature_pixel.exp() * found

    def image_logits(self, features: Features, text: Float[Tensor, "b 2 k d"], stage: int) -> Float[Tensor, "b 2 k"]:
        """Logits of both prompts of each pair for the whole image."""
        learner, seen = self.prompt_learner, features.image
        scale = learner.temperature_image.exp()
        if stage == 2:
            seen = learner.image_mapping(seen + learner.fuse(features.patches))
            scale = scale.detach()  # not trained in this stage
        mapped = unit(learner.class_mapping(text))
        return scale * (mapped @ unit(seen)[:, None, :, None])[..., 0]

    # ---- scores

    @torch.no_grad()
    def score_features(
        self,
        features: Features,
        *,
        names: Sequence[str],
        categories: Sequence[str] | None = None,
        draws: Mapping[str, Tensor] | None = None,
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them: functions of the image, its category and the seed.

        `categories` are words of the prompts; without them every image is of an object. `draws` are the flows' base
        samples: noise_context (b, r, d), noise_normal and noise_abnormal (r, d); None draws them, of contexts by name,
        of states for all images alike.
        """
        called = [ANY] * len(names) if categories is None else categories
        if draws is None:
            draws = self._draws(names)
        given = (draws[name].to(features.image.device) for name in (CONTEXT, NORMAL, ABNORMAL))
        text = self.text_features(features.image, called, *given).features
        evidence = self.evidence(features, text).flatten(1)
        logits = self.image_logits(features, text, self.stage)
        probability = (logits[:, 1] - logits[:, 0]).sigmoid().mean(dim=-1)
        pixels = self.pairs.raw(evidence).flatten(1)
        counts = [min(FEW if name in SMALL else MANY, pixels.shape[1]) for name in called]
        highest = torch.stack([own.topk(count).values.mean() for own, count in zip(pixels, counts, strict=True)])
        return Scores(image=0.5 * probability + 0.5 * highest, patch=evidence, expand=self.expand)

    def _draws(self, names: Sequence[str]) -> dict[str, Tensor]:
        shape = (self.sample_num, self.backbone.width)
        states = {name: torch.randn(shape, generator=named_generator(self.seed, name)) for name in (NORMAL, ABNORMAL)}
        return {CONTEXT: image_latents(self.seed, names, *shape), **states}

    # ---- training

    def training_draws(self, names: Sequence[str], epoch: int, step: int = 0) -> dict[str, Tensor]:
        """Base samples of the three flows, of contexts by image, and which prompt of the bank the step trains."""
        width, bank = self.backbone.width, len(self.prompt_learner.prompt_context)
        of_step = {
            name: torch.randn(width, generator=named_generator(self.seed, name, epoch, step))
            for name in (NORMAL, ABNORMAL)
        }
        of_images = [torch.randn(width, generator=named_generator(self.seed, CONTEXT, epoch, name)) for name in names]
        index = torch.randint(bank, (), generator=named_generator(self.seed, PROMPT, epoch, step))
        return {CONTEXT: torch.stack(of_images), **of_step, PROMPT: index}

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
        """Training losses: total = image + seg + dist_reg + orthogonal, and the parts of seg and dist_reg.

        In the second stage total = image. Without masks seg and its parts are absent. See `TrainableDetector.losses`.
        """
        features, draws = self.features_of(given), self.drawn_for(given, draws)
        device, stage = features.image.device, self.training_stage
        weight, images = (1.0, len(labels)) if share is None else (share.weights["image"], len(share.images))
        context, normal, abnormal = (draws[name].to(device) for name in (CONTEXT, NORMAL, ABNORMAL))
        called = [ANY] * len(labels) if categories is None else categories
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage == 1):
            text = self.text_features(features.image, called, context[:, None], normal[None], abnormal[None])
        index = int(draws[PROMPT])
        pair = text.features[:, :, index : index + 1]
        parts = {"image": weight * F.cross_entropy(self.image_logits(features, pair, stage)[..., 0], labels)}
        if stage == 2:
            return {"total": parts["image"], **parts}
        if masks is not None:
            logits = self.pairs.logits(self.evidence(features, pair)[:, :, 0])
            found = segmentation_losses(logits, masks.float(), share)
            parts |= {"seg": found.focal + found.dice, **found._asdict()}
        kl = {
            "kl_context": weight * divergence(text.context),
            "kl_normal": divergence(text.normal, images),
            "kl_abnormal": divergence(text.abnormal, images),
        }
        orthogonal = weight * orthogonality(text.features)
        parts |= {"dist_reg": torch.stack(list(kl.values())).sum(), "orthogonal": orthogonal, **kl}
        summed = [parts[name] for name in ("image", "seg", "dist_reg", "orthogonal") if name in parts]
        return {"total": torch.stack(summed).sum(), **parts}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Prompts, temperatures, flows and the rest, in the released proportions of their rates."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.released_parameters():
            scale = 0.1 if "coder" in name else next((scale for part, scale in SCALES if part in name), 0.1)
            groups.setdefault(scale, []).append(parameter)
        return [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]

    def rate_factor(self, step: int, steps_per_epoch: int) -> float:
        """In the first stage linear from 0, then a half cosine over all epochs; constant in the second."""
        if step >= self.preset.turn * steps_per_epoch:
            return 1.0
        steps = self.preset.epochs * steps_per_epoch
        warm = int(0.1 * steps)
        if step < warm:
            return step / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    def start_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """The second stage begins with a fresh optimiser. What it does not train has no gradient there."""
        turn = self.preset.turn
        self.training_stage = self.stage = 1 if epoch < turn else 2
        if epoch == turn:
            optimizer.state.clear()

    @property
    def reached(self) -> dict[str, Any]:
        """The stage that training has reached."""
        return {"stage": self.stage}
