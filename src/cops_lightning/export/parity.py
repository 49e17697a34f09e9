"""An exported file beside the detector that it was made of, on images: how far apart scores and maps are."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from PIL import Image
from sklearn.metrics import roc_auc_score

from cops_lightning.core.errors import ConfigError
from cops_lightning.core.seeding import FIXED
from cops_lightning.data.dataset import normalise, resized
from cops_lightning.data.readers.pictures import pictures
from cops_lightning.demo.catalog import CATEGORIES
from cops_lightning.demo.images import example
from cops_lightning.export.description import ExportError
from cops_lightning.export.engines import Found, Pixels
from cops_lightning.models.detector import Detector

# Largest differences of an fp32 file in score and map.
BOUND = 1e-4
# Points of image and of pixel AUROC that int8 may lose, where labels are known.
LOSS = 0.5
BATCH = 8


@dataclass(frozen=True)
class Trial:
    """Images at the detector's size and where they are from; labels (0 normal, 1 anomalous) and masks if known."""

    pixels: Pixels
    source: str
    labels: Int[np.ndarray, " n"] | None = None
    masks: Bool[np.ndarray, "n s s"] | None = None

    def batches(self) -> Iterator[UInt8[np.ndarray, "b s s 3"]]:
        """The images, a few at a time; the last batch may be smaller."""
        for start in range(0, len(self.pixels), BATCH):
            yield self.pixels[start : start + BATCH]


@dataclass(frozen=True)
class Parity:
    """An exported file beside its original. AUROC is in percent, and None without labels of both kinds.

    Args:
        source: which images.
        images: how many.
        score: largest absolute difference of scores.
        map: largest absolute difference of a map's values.
        feature: largest absolute difference of the features' values.
        bound: what all three may be at most; None for int8, where AUROC decides.
        auroc: image AUROC of the original.
        auroc_exported: that of the file.
        pixel_auroc: pixel AUROC of the original.
        pixel_auroc_exported: that of the file.
    """

    source: str
    images: int
    score: float
    map: float
    feature: float
    bound: float | None
    auroc: float | None
    auroc_exported: float | None
    pixel_auroc: float | None
    pixel_auroc_exported: float | None

    @property
    def losses(self) -> tuple[float, float] | None:
        """Points of image and of pixel AUROC that the file loses, negative where it gains; None without labels."""
        if None in (self.auroc, self.auroc_exported, self.pixel_auroc, self.pixel_auroc_exported):
            return None
        image, pixel = self.auroc, self.pixel_auroc
        return image - self.auroc_exported, pixel - self.pixel_auroc_exported  # type: ignore[operator]

    def require(self, what: str, loss: float = LOSS) -> None:
        """Raise ExportError where the file differs by more than the bound, or without one loses more than `loss`."""
        if self.bound is not None and not max(self.score, self.map, self.feature) <= self.bound:
            raise ExportError(
                f"{what} differs from its original by {self.score:.1e} in score, {self.map:.1e} in map and "
                f"{self.feature:.1e} in features on {self.images} images ({self.source}); the bound is "
                f"{self.bound:.0e}. Nothing was written. Raise bound if you can live with that, or use another format."
            )
        if self.bound is None and self.losses is not None and max(self.losses) > loss:
            raise ExportError(
                f"{what} loses {self.losses[0]:.2f} points of image AUROC and {self.losses[1]:.2f} of pixel AUROC on "
                f"{self.images} images ({self.source}); at most {loss:g} may be lost. Nothing was written. Export "
                "in fp32, or raise loss if you can live with that."
            )

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        losses = self.losses or (None, None)
        return {**asdict(self), "auroc_loss": losses[0], "pixel_auroc_loss": losses[1]}


def rendered(size: int, count: int, seed: int = 0, held_out: bool = True) -> Trial:
    """So many rendered images, half of them anomalous: of the test categories, or of the auxiliary ones."""
    names = [name for name, spec in CATEGORIES.items() if (spec.difficulty is not None) == held_out]
    keys = ((name, role, n) for n in range(count) for name, role in product(names, ("normal", "anomalous")))
    made = [example(name, role, number, seed) for name, role, number in islice(keys, count)]  # type: ignore[arg-type]
    pixels = np.stack([resized(Image.fromarray(one.image), size) for one in made])
    masks = np.stack([np.asarray(Image.fromarray(one.mask).resize((size, size))) for one in made])
    return Trial(pixels, f"rendered, seed {seed}", np.array([int(one.anomalous) for one in made]), masks)


def of_images(source: Path, size: int, count: int) -> Trial:
    """The first images of a file or folder. Raises DatasetError where there is none, or one that cannot be read."""
    return Trial(np.stack([resized(one.open(), size) for one in islice(pictures(source), count)]), str(source))


def original(detector: Detector, trial: Trial) -> Found:
    """Scores, maps and features of the detector itself, with the fixed draws."""
    with torch.no_grad():
        found = []
        for pixels in trial.batches():
            images = torch.stack([normalise(torch.from_numpy(image)) for image in pixels])
            scores, features = detector.seen(images, [FIXED] * len(images), None)
            assert features is not None, "of every detector that can be exported"
            found.append(Found(scores.image.numpy(), scores.map.numpy(), features.numpy()))
    return joined(found)


def joined(found: list[Found]) -> Found:
    """What was found in batches, as one."""
    return Found(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def compare(first: Found, second: Found, trial: Trial, bound: float | None) -> Parity:
    """How far apart two are on the same images: the original and the file."""
    return Parity(
        source=trial.source,
        images=len(trial.pixels),
        score=float(np.abs(first.score - second.score).max()),
        map=float(np.abs(first.map - second.map).max()),
        feature=float(np.abs(first.feature - second.feature).max()),
        bound=bound,
        auroc=_auroc(trial.labels, first.score),
        auroc_exported=_auroc(trial.labels, second.score),
        pixel_auroc=_auroc(trial.masks, first.map),
        pixel_auroc_exported=_auroc(trial.masks, second.map),
    )


def _auroc(truth: np.ndarray | None, found: np.ndarray) -> float | None:
    if truth is None or truth.min() == truth.max():
        return None
    return float(100 * roc_auc_score(truth.ravel(), found.ravel()))


def require_bound(bound: float) -> float:
    """The bound itself. Raises ConfigError unless it is a number above 0."""
    if not 0 < bound < 1:
        raise ConfigError(f"bound is {bound}; expected a difference above 0 and below 1, such as {BOUND:.0e}.")
    return bound
