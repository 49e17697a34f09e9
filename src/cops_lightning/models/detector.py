"""What every detector is: a scorer of images, from their pixels or from the frozen encoder's features."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.calibration import Identity
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.request import DEFAULT, Request
from cops_lightning.clip.weights import clip_from_state, fingerprint
from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.seeding import FIXED, content_names
from cops_lightning.core.tensor_files import read_tensors, require_tensors
from cops_lightning.core.types import Features, Images, Labels, Masks, Share, StateDict
from cops_lightning.core.weights import mismatches
from cops_lightning.data.readers.pictures import Source, pictures
from cops_lightning.data.stream import Decoded, Unreadable, decoded
from cops_lightning.models.anomaly_map import Scores, SmoothUpsampler, Upsampling
from cops_lightning.models.calibrated import identity_of
from cops_lightning.models.prediction import Prediction, Rule
from cops_lightning.models.predictor import Draws, Predictor, in_batches
from cops_lightning.models.released import describe


class Detector(nn.Module, Predictor):
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

    def __repr__(self) -> str:
        """Class, backbone, side, device: torch would list all modules of CLIP. Those are its `named_modules()`."""
        return f"{type(self).__name__}({self.backbone.record.name}, {self.image_size} px, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = self.backbone.clip.text_projection.device
        return found

    def identity(self, draws: Draws = "fixed", category: str | None = None) -> Identity:
        """All that decides what `predict` scores with these options; see `Predictor.identity`."""
        return identity_of(self, draws, category)

    def trained_hash(self) -> str:
        """A hash of the weights that training changed; "" where there are none."""
        return ""

    def _outcomes(
        self, source: Source, rule: Rule, draws: Draws, batch_size: int | None, workers: int, category: str | None
    ) -> Iterator[Prediction | Unreadable]:
        device = self.device
        size = batch_size or (1 if device.type == "cpu" else 8)
        found = decoded(pictures(source), self.image_size, workers)
        yield from in_batches(found, size, lambda read: self._predicted(read, size, rule, draws, category, device))

    @torch.no_grad()
    def _predicted(
        self, read: list[Decoded], size: int, rule: Rule, draws: Draws, category: str | None, device: torch.device
    ) -> list[Prediction]:
        images = torch.stack([one.image for one in read])
        # As many as in a full batch: the last bits of a product of matrices change with its size.
        images = torch.cat([images, torch.zeros(size - len(read), *images.shape[1:])])
        contents = content_names(images)
        scores, features = self.seen(
            images.to(device),
            [FIXED] * size if draws == "fixed" else contents,
            None if category is None else [category] * size,
        )
        of_images = [None] * size if features is None else list(features.float().cpu().numpy())
        found = zip(read, scores.image.tolist(), scores.patch.cpu(), contents, of_images, strict=False)
        return [
            Prediction(one.picture, score, patch, self.expand, rule, one.size, content, feature)
            for one, score, patch, content, feature in found
        ]

    def seen(
        self, images: Images, names: Sequence[str], categories: Sequence[str] | None
    ) -> tuple[Scores, Float[Tensor, "b d"] | None]:
        """Scores, and the global features behind them where the detector reads some."""
        return self.score(images, names=names, categories=categories), None


class FeatureDetector(Detector):
    """Scores images from features alone, so that an image needs to be encoded once in its life.

    `request` says which features; a detector that reads others than CoPS sets it when it is built. Where what is learnt
    enters the encoder itself, features are not `cacheable`: `encode` then gives what comes before.
    """

    request: Request = DEFAULT
    cacheable: ClassVar[bool] = True

    def encode(self, images: Images) -> Features:
        """Features of the frozen backbone, as `score_features` takes them."""
        return self.prepared(self.backbone.encode_image(images, self.request))

    def prepared(self, raw: Features) -> Features:
        """What the detector makes of the backbone's features, which are kept as the backbone gives them: nothing."""
        return raw

    @abstractmethod
    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores from features, as `encode` gives them; see `Detector.score`."""

    def graph_scores(self) -> Callable[[Features], Scores] | None:
        """`score_features` as a graph can hold it, for images of no known category, with the fixed draws, and all that
        depends on no image computed now; None where it is no graph.

        Raises ConfigError for settings with which it is none.
        """
        return None

    @torch.no_grad()
    def score(
        self,
        images: Images,
        *,
        names: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
        **given: Any,
    ) -> Scores:
        """Anomaly scores of preprocessed images; see `Detector.score`. `score_features` says what else may be given."""
        named = content_names(images) if names is None else names
        return self.score_features(self.encode(images), names=named, categories=categories, **given)

    def seen(
        self, images: Images, names: Sequence[str], categories: Sequence[str] | None
    ) -> tuple[Scores, Float[Tensor, "b d"] | None]:
        """Scores, and the global features behind them; see `Detector.seen`."""
        features = self.encode(images)
        return self.score_features(features, names=names, categories=categories), features.image


Trainable = TypeVar("Trainable", bound="TrainableDetector")


class TrainableDetector(FeatureDetector):
    """A detector with weights that are trained over the frozen backbone's features."""

    @classmethod
    def from_released(
        cls: type[Trainable],
        clip: StateDict | str | Path,
        weights: StateDict | str | Path | None,
        image_size: int | None = None,
        **options: Any,
    ) -> Trainable:
        """The detector of a released checkpoint.

        Args:
            clip: an OpenAI-format CLIP state dict, or a file with one.
            weights: a released checkpoint file, a mapping of the released names, or None for fresh weights.
            image_size: side of images in pixels; None is the one that the image tower was trained at.
            options: further arguments of the class.

        Raises WeightsError, CheckpointError or ConfigError, each saying what was found and what was expected.
        """
        model = cls(clip_from_state(clip), image_size=image_size, **options)
        if weights is not None:
            model.load_released(weights)
        return model

    @abstractmethod
    def released_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that trains, under the names that checkpoints have."""

    def training_draws(self, names: Sequence[str], epoch: int, step: int = 0) -> dict[str, Tensor]:
        """What is drawn at random in a step of an epoch, for images of these names, on the CPU, by the seed alone."""
        return {}

    def parameter_groups(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """What the optimiser gets: all that trains, or groups of it, whose rate is `scale` times the optimiser's."""
        return [parameter for _, parameter in self.released_parameters()]

    def rate_factor(self, step: int, steps_per_epoch: int) -> float | None:
        """What learning rates are multiplied by at a step, counted from 0; None where the method has no schedule."""
        return None

    def start_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """What changes as an epoch of training starts, counted from 0, such as the stage of training."""

    @property
    def reached(self) -> dict[str, Any]:
        """Arguments of the class that training has changed, which a checkpoint states."""
        return {}

    @abstractmethod
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
        """Training losses of images, or of their features as `encode` gives them: "total" is what is minimised.

        `draws` are those of `training_draws`, on the features' device; without them they are those of the first epoch.
        `categories` are the words for what is seen. With `share` the losses are this process's contributions to
        those of a batch that several processes have together.
        """

    def features_of(self, given: Images | Features) -> Features:
        """The features themselves, or those of images."""
        return given if isinstance(given, Features) else self.encode(given)

    def drawn_for(self, given: Images | Features, draws: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        """The draws of `losses`: those that were given, or those of the first epoch for images, on their device."""
        if draws is not None:
            return draws
        assert not isinstance(given, Features), "features alone do not say what is drawn for an image"
        drawn = self.training_draws(content_names(given), epoch=0)
        return {name: value.to(given.device) for name, value in drawn.items()}

    def trained_hash(self) -> str:
        """A hash of the trained weights, and of draws that a checkpoint keeps."""
        return fingerprint({**dict(self.released_parameters()), **self.fixed_draws()})[:12]

    def load_trained(self, weights: StateDict) -> None:
        """Take exactly the weights that `released_parameters` names.

        Raises CheckpointError naming missing and unexpected keys and wrong shapes; then nothing was loaded.
        """
        self._fill(weights, "The checkpoint")

    def fixed_draws(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of draws that are the same for all images: none where the seed alone makes them."""
        return {}

    def load_fixed_draws(self, draws: Mapping[str, Tensor]) -> None:
        """Take those of a checkpoint."""

    @abstractmethod
    def load_released(self, weights: StateDict | str | Path) -> None:
        """Take weights in the authors' format, which may lack what inference does not need; see `load_trained`."""

    @abstractmethod
    def save_released(self, path: str | Path) -> None:
        """Write the format in which the method's authors publish weights."""

    def read_released(
        self, weights: StateDict | str | Path, recognise: Callable[[Mapping[str, Any]], StateDict | None]
    ) -> tuple[str, StateDict, Mapping[str, Any]]:
        """What to call released weights in errors, and their tensors by name, of a file or of a mapping; and all that a
        file holds, of a mapping nothing.

        `recognise` finds the method's tensors in the content of a file. Raises CheckpointError where it does not.
        """
        if not isinstance(weights, str | Path):
            return "The mapping", recognise(weights) or weights, {}
        content = read_tensors(Path(weights), CheckpointError)
        found = recognise(content)
        if found is None:
            raise CheckpointError(
                f"{weights} is not a released checkpoint of {type(self).__name__}: it {describe(content)}. Give the "
                ".pth that the authors publish or that save_released wrote."
            )
        return str(weights), require_tensors(found, str(weights), CheckpointError), content

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Where the block raises CheckpointError, the parts that it replaced are put back."""
        before = dict(self.named_children())
        try:
            yield
        except CheckpointError:
            for name, part in before.items():
                setattr(self, name, part)
            raise

    def _require_clip(self, said: Any, origin: str) -> None:
        """Refuse weights that say that they were trained over another CLIP, by its fingerprint."""
        record = self.backbone.record
        if isinstance(said, str) and said != record.fingerprint:
            raise CheckpointError(
                f"{origin} was trained over another CLIP, with weights {said[:12]}; those of {record.name} are "
                f"{record.fingerprint[:12]}. Load the CLIP that it was trained over."
            )

    def _fill(self, weights: StateDict, origin: str, optional: Callable[[str], bool] = lambda _name: False) -> None:
        given = {name: torch.as_tensor(value) for name, value in weights.items()}
        own = dict(self.released_parameters())
        if problems := mismatches(given, own, optional):
            raise CheckpointError(
                f"{origin} does not fit {type(self).__name__}: {problems}. Expected the released names for embedding "
                f"width {self.backbone.width}; use the method, backbone and settings that it was made with."
            )
        if wrong := [name for name, value in given.items() if not value.isfinite().all()]:
            raise CheckpointError(
                f"{origin} holds values that are not finite in {wrong[0]}, so every score would be: its training went "
                "wrong. Use an earlier checkpoint, or train anew at a lower learning rate."
            )
        with torch.no_grad():
            for name, value in given.items():
                own[name].copy_(value)
