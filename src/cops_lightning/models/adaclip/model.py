"""The method as one module: a frozen CLIP whose towers take prompts of the image, scores and losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.image_encoder import mix_heads, patch_tokens
from cops_lightning.clip.request import FeatureRequest
from cops_lightning.clip.tokenizer import tokenizer_of
from cops_lightning.core.seeding import named_generator
from cops_lightning.core.types import DTYPES, Features, Images, Labels, Masks, Share, StateDict
from cops_lightning.models.adaclip.fusion import chosen, cluster, fused, most_anomalous
from cops_lightning.models.adaclip.image_tower import plainly_mixed, prompted
from cops_lightning.models.adaclip.losses import image_loss, segmentation_losses
from cops_lightning.models.adaclip.prompt_learner import NORMAL_SENTENCES, PromptLearner, in_half, sentences
from cops_lightning.models.adaclip.released_format import PREFIX, clip_of, recognise, sizes_of, write_released
from cops_lightning.models.adaclip.settings import Preset, Sizes
from cops_lightning.models.alignment import unit
from cops_lightning.models.anomaly_map import LogitUpsampler, Scores
from cops_lightning.models.detector import TrainableDetector

# Draws: the seed of each image's k-means, or what it has found.
SEEDS, SELECTED, CLUSTERS = "cluster_seeds", "selected_patches", "cluster_labels"
ANY = "object"
SCALE = 100.0
# Of the semantic fusion in an image's feature; the rest is the class token's.
FUSION = 0.2


class Alignment(NamedTuple):
    """What the forward pass computes, and all that scores and losses read.

    `image` holds the global feature of the prompted tower in the joint space and `patches` those of each layer read,
    both unit; `text` unit features of the normal and the abnormal state; `patch_logits` by how much every patch agrees
    more with the abnormal one.
    """

    image: Float[Tensor, "b d"]
    patches: Float[Tensor, "b l p d"]
    text: Float[Tensor, "b 2 d"]
    patch_logits: Float[Tensor, "b l p"]


class AdaCLIP(TrainableDetector):
    """Static and dynamic prompts in both towers of a frozen CLIP (arXiv 2407.15795), to the released program's numbers.

    Prompts depend on the image and enter the image tower's first layer, so that an image goes through the tower twice:
    once without prompts, for the feature that the dynamic ones are made of, and once with them. The image score adds
    to the class token's feature that of clusters of the most anomalous patches. No score depends on another image.

    Raises ConfigError for layers that the image tower has not, or if the image size does not divide by the backbone's
    patch size.

    Args:
        backbone: the frozen CLIP.
        preset: how it is trained; None is as released, but for the choice of an epoch.
        image_size: side of images in pixels; None is the backbone's.
        features_list: layers whose patches are read, counted from 1; None is every quarter of the tower's.
        k_clusters: of the most anomalous patches, five for each cluster.
        sizes: numbers of learnt tokens; None is the released ones.
        seed: decides the fresh weights and how k-means starts.
    """

    cacheable = False

    def __init__(
        self,
        backbone: FrozenClip,
        preset: Preset | None = None,
        *,
        image_size: int | None = None,
        features_list: Sequence[int] | None = None,
        k_clusters: int = 20,
        sizes: Sizes | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, image_size, "bilinear")
        tower = backbone.tower(self.image_size)
        quarter = max(1, tower.blocks // 4)
        layers = features_list or range(quarter, min(4 * quarter, tower.blocks) + 1, quarter)
        read = FeatureRequest(tuple(layers))
        read.require_blocks(tower.blocks)
        self.layers = read.read(tower.blocks)
        self.preset, self.seed, self.k_clusters = preset or Preset(), seed, k_clusters
        self.upsample = LogitUpsampler(self.image_size // backbone.patch_size, self.image_size)
        self.expand = self.upsample  # type: ignore[assignment]
        self._tokenizer, self._tower = tokenizer_of(backbone), tower
        self.prompt_learner = self._learner(sizes or Sizes())
        self.reset_parameters()

    def _learner(self, sizes: Sizes) -> PromptLearner:
        learner = PromptLearner(self.backbone.width, self._tower.tower, len(self.layers), sizes)
        return learner.to(self.backbone.clip.token_embedding.weight.device)

    # ---- weights

    def reset_parameters(self) -> None:
        """Fresh weights as released: prompts N(0, 0.02), linear layers as torch's. Each has a generator of its name."""
        with torch.no_grad():
            for name, parameter in self.released_parameters():
                generator, drawn = named_generator(self.seed, "init", name), torch.empty(parameter.shape)
                if "static" in name:
                    drawn.normal_(0, 0.02, generator=generator)
                else:
                    inputs = self._tower.tower if "patch_token" in name else self.backbone.width
                    drawn.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
                parameter.copy_(drawn)

    def released_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that is learnt, and the text prompts of the first layer, which nothing reads."""
        for name, parameter in self.prompt_learner.named_parameters():
            yield f"{PREFIX}{name}", parameter

    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the released format: a file, or a mapping of released names.

        The numbers of prompted layers and of tokens are those of the weights; that of clusters no file says.

        Raises CheckpointError for another method's file, for one of another CLIP as far as a file says it, and naming
        missing and unexpected keys and wrong shapes; then nothing was loaded.
        """
        origin, given, content = self.read_released(weights, recognise)
        self._require_clip(clip_of(content), origin)
        with self._all_or_nothing():
            if sizes := sizes_of(given):
                self.prompt_learner = self._learner(sizes)
            self._fill(given, origin)

    def save_released(self, path: str | Path) -> None:
        """Write the released checkpoint format; see `released_format`."""
        write_released(Path(path), dict(self.released_parameters()), self.backbone.record.fingerprint)

    # ---- the method

    @torch.no_grad()
    def encode(self, images: Images) -> Features:
        """What does not depend on the prompts: CLIP's own feature, and the tokens at the input of the first layer.

        Images go one by one, here and in `forward`: prompts are rounded to half precision, where the last bit of a
        feature may decide, and the company of an image must not.
        """
        tokens = [patch_tokens(self.backbone.clip.visual, image[None], "bicubic") for image in images.float()]
        plain = [self._tower_pass(of_image, (), plainly_mixed)[0] for of_image in tokens]
        return Features(torch.cat(plain), torch.cat(tokens))

    def forward(self, features: Features, categories: Sequence[str]) -> Alignment:
        """How images and their patches agree with the sentences about their categories."""
        images = zip(features.image[:, None], features.patches[:, None], categories, strict=True)
        return Alignment(*(torch.cat(part) for part in zip(*(self._aligned(*image) for image in images), strict=True)))

    def _aligned(self, image: Float[Tensor, "1 d"], tokens: Float[Tensor, "1 t w"], category: str) -> Alignment:
        learner = self.prompt_learner
        prompts = learner(image)
        seen, tapped = self._tower_pass(tokens, prompts.visual)
        heads = zip(learner.patch_token_layer.head, tapped.unbind(dim=1), strict=True)
        patches = unit(torch.stack([head(of_layer) for head, of_layer in heads], dim=1))
        text = self._text_features(prompts.text, category)
        normal, abnormal = (SCALE * patches @ text.T).unbind(dim=-1)
        return Alignment(unit(learner.cls_token_layer.each(seen)[:, 0]), patches, text[None], abnormal - normal)

    def _tower_pass(
        self, tokens: Tensor, prompts: Sequence[Tensor], mix: Callable[..., Tensor] = mix_heads
    ) -> tuple[Tensor, Tensor]:
        precision, kind = self.backbone.precision, tokens.device.type
        with torch.autocast(kind, DTYPES[precision] if precision != "fp32" else None, precision != "fp32"):
            return prompted(self.backbone.clip.visual, tokens, prompts, self.layers, mix)

    def _text_features(self, deep: Sequence[Float[Tensor, "1 q d"]], category: str) -> Float[Tensor, "2 d"]:
        """Unit features of both states, under an image's prompts for the layers after the first."""
        clip, q = self.backbone.clip, self.prompt_learner.sizes.length
        tokens = self._tokenizer(sentences(category)).to(clip.text_projection.device)
        ends = tokens.argmax(dim=1)
        # One token at least follows those that are overwritten.
        embedded = clip.token_embedding(tokens[:, : max(int(ends.max()) + 1, q + 2)])
        # As released, every sentence rounds the prompts, and then their gradient, for itself.
        own = [in_half(of_layer.expand(len(tokens), -1, -1)) for of_layer in deep]
        prefix, suffix = embedded[:, : q + 1], embedded[:, None, q + 1 :]
        encoded = unit(self.backbone.encode_prompts(prefix, suffix, own, ends[:, None], exact_gelu=True)[:, 0])
        normal, abnormal = encoded[:NORMAL_SENTENCES], encoded[NORMAL_SENTENCES:]
        return unit(torch.stack([normal.mean(dim=0), abnormal.mean(dim=0)]))

    def image_logits(self, found: Alignment, draws: Mapping[str, Tensor]) -> Float[Tensor, " b"]:
        """By how much each image agrees more with the abnormal state: its class token, and clusters of its patches."""
        b, evidence = len(found.image), found.patch_logits.mean(dim=1)
        draws = {name: drawn.to(evidence.device) for name, drawn in draws.items()}
        selected = draws.get(SELECTED, most_anomalous(evidence, self.k_clusters)).long().view(b, -1)
        of_image = chosen(found.patches, selected)
        labels = draws[CLUSTERS] if CLUSTERS in draws else cluster(of_image, self.k_clusters, draws[SEEDS])
        image = unit(FUSION * fused(of_image, labels.long().view(b, -1)) + (1 - FUSION) * found.image)
        normal, abnormal = (SCALE * (found.text @ image[:, :, None])[..., 0]).unbind(dim=-1)
        return abnormal - normal

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
        """Anomaly scores from what `encode` gives: functions of the image, its category and the seed.

        `categories` are words of the sentences; without them every image is of an object. `draws` are the patches
        (b, k) that are clustered and the labels (b, k) of their clusters, selected_patches and cluster_labels; None
        finds them, with k-means started by name.
        """
        found = self(features, [ANY] * len(names) if categories is None else categories)
        logits = self.image_logits(found, draws or self.training_draws(names, epoch=-1))
        return Scores(image=logits.sigmoid(), patch=found.patch_logits.mean(dim=1), expand=self.expand)

    # ---- training

    def training_draws(self, names: Sequence[str], epoch: int, step: int = 0) -> dict[str, Tensor]:
        """The seed of each image's k-means."""
        drawn = [torch.randint(2**31, (), generator=named_generator(self.seed, SEEDS, epoch, name)) for name in names]
        return {SEEDS: torch.stack(drawn)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All at ten times the optimiser's rate, which is 0.01 by default, with the weight decay of AdamW."""
        parameters = [parameter for _, parameter in self.released_parameters()]
        return [{"params": parameters, "scale": 10.0, "weight_decay": 0.01, "decoupled_weight_decay": True}]

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
        """Training losses: total = image + focal + dice_abnormal + dice_normal, all of them means over images.

        Without masks those of pixels are absent. See `TrainableDetector.losses`.
        """
        features, draws = self.features_of(given), self.drawn_for(given, draws)
        found = self(features, [ANY] * len(labels) if categories is None else categories)
        parts = {"image": image_loss(self.image_logits(found, draws), labels)}
        if masks is not None:
            parts |= segmentation_losses(self.upsample.logits(found.patch_logits), masks.float())._asdict()
        if share is not None:  # all are means over images, so shares weigh as their images do
            parts = {name: share.weights["image"] * loss for name, loss in parts.items()}
        return {"total": torch.stack(list(parts.values())).sum(), **parts}
