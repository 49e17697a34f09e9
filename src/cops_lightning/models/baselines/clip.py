"""CLIP with two plain sentences, on the features that CoPS sees: what learning prompts has to beat."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.types import Features
from cops_lightning.models.alignment import image_logits, patch_probabilities
from cops_lightning.models.anomaly_map import Scores, Upsampling
from cops_lightning.models.baselines.wording import OBJECT, PLAIN, StatePrompts
from cops_lightning.models.detector import FeatureDetector


class PlainClip(FeatureDetector):
    """Zero-shot CLIP (arXiv 2103.00020) with one sentence per state, which names the category.

    Image score and patch scores are the probability of the anomalous sentence, of the global feature and of the value
    path's patches (both as `clip.image_encoder` gives them, patches unpooled), at the temperature of CoPS. With two
    sentences a temperature changes no order.

    Args:
        backbone: the frozen CLIP.
        image_size: side of images in pixels; None is the backbone's.
        upsampling: of patch scores to pixels.
        category_names: what to call categories in sentences; for others it is their own name in words.
    """

    def __init__(
        self,
        backbone: FrozenClip,
        image_size: int | None = None,
        upsampling: Upsampling = "nearest",
        category_names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(backbone, image_size, upsampling)
        self.prompts = StatePrompts(backbone, PLAIN, category_names or {})

    @torch.no_grad()
    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features; images without a category are of an "object"."""
        return self.scores_with(features, self.prompts(categories or [OBJECT] * len(features.image)))

    @torch.no_grad()
    def graph_scores(self) -> Callable[[Features], Scores]:
        """Scores of images of an "object"; see `FeatureDetector.graph_scores`."""
        sentences = self.prompts([OBJECT])
        return lambda features: self.scores_with(features, sentences.expand(features.image.shape[0], -1, -1))

    def scores_with(self, features: Features, text: Float[Tensor, "b 2 d"]) -> Scores:
        """Anomaly scores from features and unit features of both sentences of every image."""
        return Scores(
            image=image_logits(features.image, text).softmax(dim=-1)[:, 1],
            patch=patch_probabilities(features.patches, text)[..., 1],
            expand=self.expand,
        )
