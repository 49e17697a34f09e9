"""The method as one module: a frozen CLIP, two learnt prompts, scores and losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.request import FeatureRequest
from cops_lightning.clip.tokenizer import tokenizer_of
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.core.seeding import FIXED, named_generator
from cops_lightning.core.types import Features, Images, Labels, Masks, Share, StateDict
from cops_lightning.models.alignment import image_logits, unit
from cops_lightning.models.anomaly_map import Scores, upsampling_matrix
from cops_lightning.models.anomalyclip.anomaly_map import evidence, patch_probabilities
from cops_lightning.models.anomalyclip.losses import image_loss, segmentation_losses
from cops_lightning.models.anomalyclip.prompt_learner import WORDS, PromptLearner
from cops_lightning.models.anomalyclip.released_format import (
    differing,
    fixed_tensors,
    learnt,
    recognise,
    write_released,
)
from cops_lightning.models.anomalyclip.settings import Preset, Sizes
from cops_lightning.models.detector import TrainableDetector


class Alignment(NamedTuple):
    """What the forward pass computes, and all that scores and losses read.

    `text` holds unit features of the normal and the anomalous prompt, `image_logits` the image's cosines with them over
    the temperature, `patch_probabilities` how likely each patch of each layer read is anomalous.
    """

    text: Float[Tensor, "2 d"]
    image_logits: Float[Tensor, "b 2"]
    patch_probabilities: Float[Tensor, "b l p"]


class AnomalyCLIP(TrainableDetector):
    """Object-agnostic prompts over a frozen CLIP (arXiv 2310.18961), to the numbers of the released program.

    Two prompts, the same for every image and category, are learnt on the text side. The image score is the probability
    of the anomalous one for the global feature; the map sums, over the layers read, that of every patch of a value path
    that starts within the tower. Nothing is drawn, and no image depends on another.

    Raises ConfigError for layers that the image tower has not, for prompts that exceed the text tower's context, or if
    the image size does not divide by the backbone's patch size.

    Args:
        backbone: the frozen CLIP.
        preset: how it is trained; None is as released.
        image_size: side of images in pixels; None is the backbone's.
        dual_layers: how many of the last image layers have the value path; None is 19 of 24, as released, and as many
            in proportion of other towers.
        features_list: layers whose patches are read, counted from 1; None is the last one alone, as published.
        sizes: numbers of learnt tokens; None is the released ones.
        seed: decides the fresh weights.
    """

    request: FeatureRequest
    upsampling: Tensor

    def __init__(
        self,
        backbone: FrozenClip,
        preset: Preset | None = None,
        *,
        image_size: int | None = None,
        dual_layers: int | None = None,
        features_list: Sequence[int] | None = None,
        sizes: Sizes | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, image_size, "bilinear")
        blocks = backbone.tower(self.image_size).blocks
        if dual_layers is not None and not 0 <= dual_layers <= blocks:
            raise ConfigError(f"dual_layers is {dual_layers}; expected 0 to {blocks}, the layers of the image tower.")
        single = round(5 * blocks / 24) if dual_layers is None else blocks - dual_layers
        self.request = FeatureRequest(tuple(features_list or [blocks]), values_from=single)
        self.request.require_blocks(blocks)
        self.preset, self.seed = preset or Preset(), seed
        tokenizer, table = tokenizer_of(backbone), backbone.clip.token_embedding.weight
        sot, eot = len(table) - 2, len(table) - 1
        self._numbers = [[sot, *tokenizer.encode(words), eot] for words in WORDS]
        self.prompt_learner = self._learner(sizes or Sizes())
        side, patch = self.image_size, backbone.patch_size
        matrix = upsampling_matrix(side // patch, side, "bilinear").float()
        self.register_buffer("upsampling", matrix, persistent=False)
        self._encoded: tuple[object, Float[Tensor, "2 d"]] | None = None
        self.reset_parameters()

    def _learner(self, sizes: Sizes) -> PromptLearner:
        table, length = self.backbone.clip.token_embedding.weight, self.backbone.clip.context_length
        if (needed := sizes.context + max(map(len, self._numbers))) > length:
            raise ConfigError(
                f"A prompt with {sizes.context} context tokens has {needed} tokens; the text tower takes {length}. Use "
                f"sizes.context of {length - max(map(len, self._numbers))} or less."
            )
        deep_layers = self.backbone.deep_layers if sizes.deep_layers is None else sizes.deep_layers
        normal, anomalous = (table[numbers[1:]] for numbers in self._numbers)
        sot = table[self._numbers[0][0]]
        learner = PromptLearner(sot, (normal, anomalous), sizes.context, deep_layers, sizes.deep_tokens)
        return learner.to(table.device)

    # ---- weights

    def reset_parameters(self) -> None:
        """Fresh weights as released, N(0, 0.02). Every tensor has a generator of its own name."""
        with torch.no_grad():
            for name, parameter in self.released_parameters():
                generator = named_generator(self.seed, "init", name)
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))

    def released_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that trains, under its released name."""
        yield from self.prompt_learner.named_parameters()

    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the released format: a file, or a mapping of released names that may lack all but the learnt.

        The numbers of context and deep tokens are those of the weights.

        Raises CheckpointError for another method's file, for one that was trained over another CLIP's token embeddings,
        and naming missing and unexpected keys and wrong shapes; then nothing was loaded.
        """
        origin, given, _ = self.read_released(weights, recognise)
        own = learnt(given)
        context, deep = own.get("ctx_pos"), own.get("compound_prompts_text.0")
        with self._all_or_nothing():
            if context is not None and context.dim() == 4:
                tokens = deep.shape[0] if deep is not None and deep.dim() == 2 else 1
                layers = sum(name.startswith("compound_prompts_text.") for name in own)
                self.prompt_learner = self._learner(Sizes(context.shape[2], layers, tokens))
            if other := differing(given, self._fixed()):
                raise CheckpointError(
                    f"{origin} was trained over another CLIP: its {other[0]} differs from the token embeddings of "
                    f"{self.backbone.record.name}. Load the CLIP that it was trained over."
                )
            self._fill(own, origin)

    def save_released(self, path: str | Path) -> None:
        """Write the released checkpoint format; see `released_format`."""
        write_released(Path(path), dict(self.released_parameters()), self._fixed())

    def _fixed(self) -> dict[str, Tensor]:
        clip, context = self.backbone.clip, self.prompt_learner.ctx_pos.shape[2]
        return fixed_tensors(clip.token_embedding.weight, self._numbers, context, clip.context_length)

    # ---- the method

    def forward(self, features: Features, text: Float[Tensor, "2 d"]) -> Alignment:
        """How images and their patches agree with both prompts, given as `text_features` gives them."""
        logits = image_logits(features.image, text.expand(features.image.shape[0], -1, -1))
        return Alignment(text, logits, patch_probabilities(features.patches, text))

    def text_features(self) -> Float[Tensor, "2 d"]:
        """Unit features of the normal and the anomalous prompt, which depend on no image."""
        tokens, ends = self.prompt_learner()
        deep = self.prompt_learner.deep()
        encoded = self.backbone.encode_prompts(tokens[:, :-1], tokens[:, None, -1:], deep, ends[:, None])
        return unit(encoded[:, 0])

    # ---- scores

    @torch.no_grad()
    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them. Neither `names` nor `categories` are looked at.

        With several layers, patches and pixels lie in [0, number of layers], as the released maps do.
        """
        found = self(features, self.text_once())
        patch = evidence(found.patch_probabilities)
        return Scores(image=found.image_logits.softmax(dim=-1)[:, 1], patch=patch, expand=self.expand)

    @torch.no_grad()
    def graph_scores(self) -> Callable[[Features], Scores]:
        """See `FeatureDetector.graph_scores`."""
        self.text_once()  # before tracing, so that the prompts are a constant of the graph
        return lambda features: self.score_features(features, names=[FIXED])

    def text_once(self) -> Float[Tensor, "2 d"]:
        """`text_features`, computed anew only where a weight has changed or moved."""
        weights = [parameter for _, parameter in self.released_parameters()]
        state = [(id(weight), weight.data_ptr(), weight._version) for weight in weights]
        if self._encoded is None or self._encoded[0] != state:
            self._encoded = state, self.text_features()
        return self._encoded[1]

    # ---- training

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
        """Training losses: total = image + seg, where seg is the preset's weight times the pixel losses of all layers.

        Without masks seg is undefined: absent from the result and from the total. See `TrainableDetector.losses`.
        """
        found = self(self.features_of(given), self.text_features())
        parts = {"image": image_loss(found.image_logits, labels)}
        if masks is not None:
            segmentation = segmentation_losses(found.patch_probabilities, masks.float(), self.upsampling)
            parts["seg"] = self.preset.seg_weight * sum(segmentation, torch.zeros((), device=masks.device))
        if share is not None:  # all are means over images, so shares weigh as their images do
            parts = {name: share.weights["image"] * loss for name, loss in parts.items()}
        return {"total": torch.stack(list(parts.values())).sum(), **parts}
