"""Samples to tensors: the preprocessing of CLIP for images, the rule of the method for masks."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cops_lightning.core.choices import Split
from cops_lightning.core.errors import DatasetError
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD, Batch, Features, Sample
from cops_lightning.data.augmentation import Augment
from cops_lightning.data.corruption import Corruption
from cops_lightning.data.readers.images import (
    Orientation,
    Pixels,
    ReadingError,
    of_another_size,
    read_image,
    read_mask,
)
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.masks import MaskThreshold, require_marked
from cops_lightning.data.readers.pictures import Picture

# Raised when the same file gives other tensors than before: part of what cached features are named by.
PREPROCESSING_VERSION = 3


@dataclass(frozen=True)
class Item:
    """One image: preprocessed, or as the features g and f that the encoder made of it before; the other is None.

    `mask` holds 0 and 1, and is None for a dataset without masks. `name` is that of the preprocessed pixels, see
    `core.seeding.content_names`.
    """

    image: Float[Tensor, "3 s s"] | None
    mask: Float[Tensor, "s s"] | None
    sample: Sample
    name: str
    features: tuple[Float[Tensor, " d"], Float[Tensor, "*l p e"]] | None = None


@dataclass(frozen=True)
class Preprocess:
    """From a sample to what CLIP sees: RGB, resized to (size, size) whatever the aspect, normalised.

    A mask value above `threshold` is anomalous. `augment` is an albumentations transform; it gets the resized image,
    uint8 of shape (size, size, 3), and the mask, uint8 of shape (size, size) with values from 0 to 255, and must keep
    their size. `corruption` makes the resized image worse and leaves the mask. `orientation` is that of
    `readers.images`, for image and mask alike.
    """

    size: int
    has_masks: bool
    threshold: int = 0
    augment: Augment | None = None
    corruption: Corruption | None = None
    orientation: Orientation = "viewer"

    def __call__(self, sample: Sample) -> Item:
        """Decode and preprocess one sample. Raises ReadingError where a file cannot be read or the sizes differ."""
        full = read_image(sample.image, self.orientation)
        image = resized(full, self.size)
        mask = self._mask(sample, full.size) if self.has_masks else None
        if self.augment is not None:
            image, mask = self._augmented(image, mask, sample)
        if self.corruption is not None:
            image = self.corruption(image)
        binary = None if mask is None else torch.from_numpy(mask > 127).float()
        seen = normalise(torch.from_numpy(image))
        return Item(seen, binary, sample, content_names(seen[None])[0])

    def _mask(self, sample: Sample, image_size: tuple[int, int]) -> Pixels:
        if sample.mask is None:
            return np.zeros((self.size, self.size), np.uint8)
        stored = read_mask(sample.mask, self.orientation)
        if stored.size != image_size:
            raise ReadingError(of_another_size(sample, stored.size, image_size))
        marked = Image.fromarray(np.where(np.asarray(stored) > self.threshold, 255, 0).astype(np.uint8))
        return np.array(marked.resize((self.size, self.size), Image.Resampling.BILINEAR))

    def _augmented(self, image: Pixels, mask: Pixels | None, sample: Sample) -> tuple[Pixels, Pixels | None]:
        assert self.augment is not None
        result = self.augment(image=image) if mask is None else self.augment(image=image, mask=mask)
        changed, changed_mask = result["image"], result.get("mask")
        if changed.shape != image.shape or changed.dtype != image.dtype:
            raise ReadingError(
                f"The augmentation turned {sample.image} from {image.dtype} {image.shape} into {changed.dtype} "
                f"{changed.shape}. It must keep size and type; resizing and normalising are done by the dataset."
            )
        return np.ascontiguousarray(changed), None if mask is None else np.ascontiguousarray(changed_mask)


class Preprocessed(Dataset[Item]):
    """Samples, preprocessed for CLIP."""

    def __init__(self, samples: Sequence[Sample], preprocess: Preprocess) -> None:
        self.samples, self.preprocess = samples, preprocess

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Item:
        return self.preprocess(self.samples[place])


class AnomalyDataset(Preprocessed):
    """One split of an index, preprocessed for CLIP; see `Preprocess` for what that means and for `augment`.

    `mask_threshold` says which mask values are anomalous: "released" takes all but 0, as the released program does,
    "dataset" those above the threshold that fits the masks of the dataset, which are examined unless they were before.
    """

    def __init__(
        self,
        index: DatasetIndex,
        size: int,
        *,
        split: Split = "test",
        mask_threshold: MaskThreshold = "dataset",
        augment: Augment | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        known = require_marked(index, mask_threshold)
        threshold = 0 if mask_threshold == "released" else known.mask_threshold or 0
        self.name = index.name
        preprocess = Preprocess(size, index.has_masks, threshold, augment, corruption, index.orientation)
        super().__init__(known.split(split), preprocess)


def preprocess(image: str | Path | Image.Image | UInt8[np.ndarray, "h w 3"], size: int) -> Float[Tensor, "3 s s"]:
    """What the encoder sees of one image, given as a file, by Pillow, or as RGB values: resized and normalised.

    The same pixels give the same tensor on every way here. Raises ReadingError where a file cannot be read, and
    DatasetError for arrays of another type or shape.
    """
    opened = read_image(Path(image)) if isinstance(image, str | Path) else Picture("An image", pixels=image).open()
    return normalise(torch.from_numpy(resized(opened, size)))


def resized(image: Image.Image, size: int) -> Pixels:
    """An RGB image resized to (size, size), whatever its aspect."""
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def normalise(image: UInt8[Tensor, "s s 3"]) -> Float[Tensor, "3 s s"]:
    """Pixels in [0, 255] to CLIP's input: scaled to [0, 1], less CLIP's mean, over CLIP's standard deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    scaled = image.permute(2, 0, 1).contiguous().float().div_(255)
    return scaled.sub_(mean).div_(std)


def collate(items: Sequence[Item]) -> Batch:
    """Stack preprocessed images."""
    masks = [item.mask for item in items if item.mask is not None]
    if masks and len(masks) < len(items):
        raise DatasetError("A batch mixes images of datasets with and without masks. Load each dataset by itself.")
    images = [item.image for item in items if item.image is not None]
    features = [item.features for item in items if item.features is not None]
    if images and features:
        raise DatasetError("A batch mixes images and features. Load a dataset whole from the cache, or not at all.")
    return Batch(
        torch.stack(images) if images else None,
        torch.stack(masks) if masks else None,
        torch.tensor([item.sample.label for item in items]),
        tuple(item.sample for item in items),
        tuple(item.name for item in items),
        Features(*(torch.stack(part) for part in zip(*features, strict=True))) if features else None,
    )


def loader(dataset: Dataset[Item], workers: int, **options: Any) -> DataLoader[Batch]:
    """Batches of a dataset, decoded by so many processes; `options` are those of torch's DataLoader."""
    made: DataLoader[Any] = DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=collate,
        # A job of joblib's launcher has a default way to start processes that torch's workers cannot use.
        multiprocessing_context=multiprocessing.get_all_start_methods()[0] if workers else None,
        **options,
    )
    return made
