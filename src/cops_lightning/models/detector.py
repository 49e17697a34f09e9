"""What every detector is: a scorer of images, from their pixels or from the frozen encoder's features."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import Features, Images, Labels, Masks, Share, StateDict
from cops_lightning.data.dataset import preprocess
from cops_lightning.data.readers.unlabelled import unlabelled
from cops_lightning.models.anomaly_map import Scores, SmoothUpsampler, Upsampling, pool_neighbours


class Prediction(NamedTuple):
    """What a detector finds in an image file. `score` and `map` lie in [0, 1]; higher is more anomalous."""

    path: Path
    score: float
    map: Float[np.ndarray, "s s"]


class Detector(nn.Module, ABC):
    """Scores preprocessed images. `expand` makes pixel maps of patch scores.

    Raises ConfigError if the image size does not divide by the backbone's patch size.

    Args:
        backbone: the frozen CLIP.
        image_size: side of images in pixels; None is the backbone's.
        upsampling: of patch scores to pixels.
    """

    seed: int = 0

    def __init__(self, backbone: FrozenClip, image_size: int | None = None, upsampling: Upsampling = "nearest") -> None:
        super().__init__()
        patch, side = backbone.patch_size, image_size or backbone.image_size
        backbone.require_side(side)
        self.backbone, self.image_size = backbone, side
        self.expand = SmoothUpsampler(side // patch, patch, upsampling)

    @abstractmethod
    def score(
        self, images: Images, *, names: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores of preprocessed images.

        `names` are what draws are keyed by, one per image; without them they are `content_names(images)`. `categories`
        are the words for what is seen, for detectors whose prompts name it.
        """

    def predict(self, source: str | Path | Iterable[str | Path], batch_size: int = 8) -> Iterator[Prediction]:
        """Scores and maps of an image file, of all images in a folder, or of files in their order.

        Files are read as they are needed. Raises DatasetError where a folder holds no image, and ReadingError, one of
        its kinds, at the first file that cannot be read.
        """
        paths = (sample.image for sample in unlabelled(source)) if isinstance(source, str | Path) else source
        remaining = iter(paths)
        while batch := [Path(path) for path in islice(remaining, batch_size)]:
            yield from self._predict(batch)

    @torch.no_grad()
    def _predict(self, paths: Sequence[Path]) -> list[Prediction]:
        images = torch.stack([preprocess(path, self.image_size) for path in paths])
        scores = self.score(images.to(self.backbone.clip.text_projection.device))
        found = zip(paths, scores.image.tolist(), scores.map.float().cpu().numpy(), strict=True)
        return [Prediction(*of_image) for of_image in found]


class FeatureDetector(Detector):
    """Scores images from features alone, so that an image needs to be encoded once in its life.

    Args:
        backbone: the frozen CLIP.
        image_size: side of images in pixels; None is the backbone's.
        upsampling: of patch scores to pixels.
        pool: side of the neighbourhood, in patches and odd, over which patch features are averaged.
    """

    def __init__(
        self,
        backbone: FrozenClip,
        image_size: int | None = None,
        upsampling: Upsampling = "nearest",
        pool: int = 1,
    ) -> None:
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
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them; see `Detector.score`."""

    @torch.no_grad()
    def score(
        self, images: Images, *, names: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores of preprocessed images; see `Detector.score`."""
        named = content_names(images) if names is None else names
        return self.score_features(self.encode(images), names=named, categories=categories)


class TrainableDetector(FeatureDetector):
    """A detector with weights that are trained over the frozen backbone's features."""

    @abstractmethod
    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that trains, under the names that checkpoints have."""

    @abstractmethod
    def training_draws(self, names: Sequence[str], epoch: int) -> dict[str, Tensor]:
        """What is drawn at random for images of these names in an epoch, on the CPU; a function of the seed alone."""

    @abstractmethod
    def losses(
        self,
        features: Features,
        masks: Masks | None,
        labels: Labels,
        draws: Mapping[str, Tensor],
        share: Share | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Training losses from features, as `encode` gives them: "total" is what is minimised.

        `draws` are those of `training_draws`, on the features' device. With `share` the losses are this process's
        contributions to those of a batch that several processes have together.
        """

    @abstractmethod
    def load_trained(self, weights: StateDict) -> None:
        """Take exactly the weights that `trained_parameters` names.

        Raises CheckpointError naming missing and unexpected keys and wrong shapes; then nothing was loaded.
        """

    def load_released(self, weights: StateDict) -> None:
        """Take weights in the authors' format, which may lack what inference does not need; see `load_trained`."""
        self.load_trained(weights)

    @abstractmethod
    def save_released(self, path: str | Path) -> None:
        """Write the format in which the method's authors publish weights."""
