"""What every model is to the engine: a scorer of images, from their pixels or from the frozen encoder's features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.types import Features, Images
from cops_lightning.models.anomaly_map import Scores, SmoothUpsampler, Upsampling, pool_neighbours


class Detector(nn.Module, ABC):
    """Scores preprocessed images of `image_size` pixels a side. `expand` makes pixel maps of patch scores.

    Raises ConfigError if `image_size` does not divide by the backbone's patch size.
    """

    def __init__(self, backbone: FrozenClip, image_size: int, upsampling: Upsampling) -> None:
        super().__init__()
        patch = backbone.patch_size
        if image_size % patch or image_size < patch:
            raise ConfigError(
                f"image_size is {image_size}, which the patch size {patch} of {backbone.record.name} does not divide; "
                f"use {max(1, image_size // patch) * patch} or {(image_size // patch + 1) * patch}."
            )
        self.backbone, self.image_size = backbone, image_size
        self.expand = SmoothUpsampler(image_size // patch, patch, upsampling)

    @abstractmethod
    def score(
        self, images: Images, *, keys: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores of images whose names are `keys` and whose categories are `categories`, one each per image."""


class FeatureDetector(Detector):
    """Scores images from features alone, so that an image needs to be encoded once in its life.

    `pool` is the side of the neighbourhood, in patches and odd, over which patch features are averaged.
    """

    def __init__(self, backbone: FrozenClip, image_size: int, upsampling: Upsampling, pool: int) -> None:
        super().__init__(backbone, image_size, upsampling)
        self.pool = pool

    def encode(self, images: Images) -> Features:
        """Features of the frozen backbone, patches averaged over their neighbourhood."""
        return self.pooled(self.backbone.encode_image(images))

    def pooled(self, raw: Features) -> Features:
        """The backbone's features with patches averaged over their neighbourhood."""
        return Features(raw.image, pool_neighbours(raw.patches, self.pool))

    @abstractmethod
    def score_features(
        self, features: Features, *, keys: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them; see `score`."""

    @torch.no_grad()
    def score(
        self, images: Images, *, keys: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores of images; see `Detector.score`."""
        return self.score_features(self.encode(images), keys=keys, categories=categories)
