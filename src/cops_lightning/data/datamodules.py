"""The LightningDataModules: a class per published dataset, data of one's own, and one auxiliary set with many targets.

None of them reads the disk before `prepare_data`, `setup` or a loader is called.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict, Unpack

import torch
from annotated_types import Ge, Lt
from lightning import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, Dataset, Subset

from cops_lightning.core.errors import ConfigError, DatasetError, ProtocolError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.core.types import Batch, Sample
from cops_lightning.data.augmentation import Augment, composed
from cops_lightning.data.catalog import spec_or_none
from cops_lightning.data.corruption import Corruption
from cops_lightning.data.dataset import (
    AnomalyDataset,
    Item,
    Preprocess,
    Preprocessed,
    loader,
)
from cops_lightning.data.mosaic import Mosaics, NumberedShuffle
from cops_lightning.data.readers.images import Orientation
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.masks import MaskThreshold, require_marked
from cops_lightning.data.readers.resolve import load_index, places_of
from cops_lightning.data.readers.spec import BlankMask
from cops_lightning.data.readers.unlabelled import unlabelled
from cops_lightning.data.samplers import EpochShuffle, SharedBatches, Strided

Count = Annotated[int, Ge(1)]
Workers = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]


class ImageModule(LightningDataModule, ABC):
    """Images of one side, in batches; what the data modules of this library share."""

    def __init__(self, image_size: int | None, num_workers: int) -> None:
        super().__init__()
        self._image_size, self.num_workers = image_size, num_workers
        # With more processes than images of a dataset, some have none of it to evaluate.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    @property
    def image_size(self) -> int:
        """Side in pixels that images are resized to: what was given, else that of the trainer's LightningModule."""
        module = None if self.trainer is None else self.trainer.lightning_module
        size = getattr(module, "image_size", None)
        if self._image_size is not None:
            if isinstance(size, int) and size != self._image_size:
                raise ConfigError(
                    f"{type(self).__name__} has image_size {self._image_size}, and {type(module).__name__} takes {size}"
                    ". Leave it out, or give the model that size by model.image_size."
                )
            return self._image_size
        if not isinstance(size, int):
            holder = "there is no trainer yet" if module is None else f"{type(module).__name__} has no image_size"
            raise ConfigError(f"{type(self).__name__} has no image_size, and {holder} to take it from. Give it one.")
        return size

    def _in_order(self, dataset: Dataset[Item], batch_size: int, workers: int | None = None) -> DataLoader[Batch]:
        """Every image once, in order."""
        return self._loader(dataset, workers, sampler=Strided(dataset), batch_size=batch_size)  # type: ignore[arg-type]

    def _loader(self, dataset: Dataset[Item], workers: int | None = None, **batching: Any) -> DataLoader[Batch]:
        workers = self.num_workers if workers is None else workers
        pinned = torch.cuda.is_available()
        return loader(dataset, workers, pin_memory=pinned, persistent_workers=workers > 0, **batching)


class DataSettings(TypedDict, total=False):
    """The keyword arguments of `AnomalyDataModule`, as its subclasses pass them on."""

    categories: Sequence[str] | None
    image_size: Count | None
    batch_size: Count
    eval_batch_size: Count
    num_workers: Workers
    limit: Count | None
    mask_threshold: MaskThreshold
    blank_masks: BlankMask | None
    orientation: Orientation
    augment: Augment | Sequence[Augment] | None
    mosaic: Fraction
    corruption: Corruption | None
    val_fraction: Fraction
    seed: int
    evaluate_seen: bool | Sequence[str]


class AnomalyDataModule(ImageModule):
    """Labelled images to train on, to validate on and to test on.

    Once `setup` or `find` has run, `auxiliary` is what is trained on, None where nothing is, and `targets` is what is
    tested. CoPS trains on the TEST split of the auxiliary dataset, which has anomalies and masks. `cached` may hold, by
    name, datasets whose items carry features; they are served in place of the images, unless those are changed.

    Args:
        categories: keep only these; default: all.
        image_size: side in pixels that images are resized to; default: that of the trainer's LightningModule.
        batch_size: images of a step of training, over all processes.
        eval_batch_size: images of a batch of validation, testing and prediction, of each process.
        num_workers: processes that decode images; 0 is the process itself.
        limit: images of each dataset to keep, spread evenly over its categories and labels, at least one of each of
            them; default: all.
        mask_threshold: which mask values are anomalous, as "dataset": those above the threshold that fits the dataset;
            or as "released": all but 0, as in the released program.
        blank_masks: what an image is that is not known to be normal and whose mask marks nothing: "normal",
            "anomalous", or an "error"; default: normal where nothing but the mask could say so, else an error.
        orientation: "viewer" turns images and masks as EXIF says and viewers do; "released" leaves them as stored.
        augment: an albumentations transform of training images and their masks, or a list to apply one by one.
        mosaic: share of training images that are replaced by mosaics of four of their category, anew in every epoch.
        corruption: what is done to tested images.
        val_fraction: share of every category and label that is not trained on but validated on, spread evenly.
        seed: of the order in training.
        evaluate_seen: test although the model was trained on the same categories. That is not zero-shot.

    Raises ConfigError where `val_fraction` is not in [0, 1).
    """

    def __init__(
        self,
        *,
        categories: Sequence[str] | None = None,
        image_size: Count | None = None,
        batch_size: Count = 8,
        eval_batch_size: Count = 8,
        num_workers: Workers = 0,
        limit: Count | None = None,
        mask_threshold: MaskThreshold = "dataset",
        blank_masks: BlankMask | None = None,
        orientation: Orientation = "viewer",
        augment: Augment | Sequence[Augment] | None = None,
        mosaic: Fraction = 0.0,
        corruption: Corruption | None = None,
        val_fraction: Fraction = 0.0,
        seed: int = 0,
        evaluate_seen: bool | Sequence[str] = False,
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise ConfigError(f"val_fraction is {val_fraction}; expected a share of 0 or more and less than 1.")
        super().__init__(image_size, num_workers)
        self.categories = (categories,) if isinstance(categories, str) else categories
        self.batch_size, self.eval_batch_size, self.limit = batch_size, eval_batch_size, limit
        self.mask_threshold, self.augment, self.corruption = mask_threshold, augment or None, corruption
        self.blank_masks, self.orientation = blank_masks, orientation
        self.val_fraction, self.seed, self.mosaic = val_fraction, seed, mosaic
        self.cached: dict[str, Dataset[Item]] = {}
        self.auxiliary: DatasetIndex | None = None
        self.targets: list[DatasetIndex] = []
        self._evaluate_seen = (evaluate_seen,) if isinstance(evaluate_seen, str) else evaluate_seen
        self._located = self._found = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Show the settings that a subclass passes on among its own arguments: configurations are checked by them."""
        super().__init_subclass__(**options)
        own = inspect.signature(cls.__init__).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            kept = [p for p in own if p.kind is not p.VAR_KEYWORD and p.name != "self"]
            passed = inspect.signature(AnomalyDataModule).parameters.values()
            cls.__signature__ = inspect.Signature([*kept, *passed])  # type: ignore[attr-defined]

    @abstractmethod
    def _read(self) -> tuple[DatasetIndex | None, list[DatasetIndex]]:
        """Find the auxiliary dataset and the targets on disk, restricted to what is asked for."""

    def places(self) -> list[Path]:
        """The folders and listing files that the datasets are read from, as far as they are known without reading."""
        return []

    def locate(self) -> None:
        """Find the datasets on disk, the first time that this is called; their masks are not looked at."""
        if not self._located:
            auxiliary, targets = self._read()
            self.auxiliary = None if auxiliary is None else self._as_set(auxiliary)
            self.targets = [self.auxiliary if target is auxiliary else self._as_set(target) for target in targets]  # type: ignore[misc]
            self._located = True

    def find(self) -> None:
        """Find the datasets on disk and examine their masks, the first time that this is called.

        Raises DatasetError where one is not found or not understood, or its masks do not mark its anomalous images.
        """
        self.locate()
        if not self._found:
            auxiliary = None if self.auxiliary is None else require_marked(self.auxiliary, self.mask_threshold)
            self.targets = [
                auxiliary if target is self.auxiliary and auxiliary else require_marked(target, self.mask_threshold)
                for target in self.targets
            ]
            self.auxiliary, self._found = auxiliary, True

    def _as_set(self, index: DatasetIndex) -> DatasetIndex:
        blank = self.blank_masks or index.blank_masks
        return replace(index, orientation=self.orientation, blank_masks=blank)

    def prepare_data(self) -> None:
        """Find the datasets; Lightning calls this in one process, before `setup` in all of them."""
        self.find()

    def setup(self, stage: str) -> None:
        """Find the datasets, where `prepare_data` did not run in this process."""
        self.find()

    @property
    def evaluate_seen(self) -> tuple[str, ...]:
        """The targets that may be tested although they were trained on."""
        if isinstance(self._evaluate_seen, bool):
            return tuple(target.name for target in self.targets) if self._evaluate_seen else ()
        return tuple(self._evaluate_seen)

    @property
    def changes_images(self) -> bool:
        """Whether training images differ from one epoch to the next."""
        return self.augment is not None or self.mosaic > 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the auxiliary dataset, shuffled anew every epoch."""
        index = self._trained()
        if self.changes_images:
            dataset: Dataset[Item] = self.dataset(index, composed(self.augment) if self.augment else None)
        else:
            dataset = self._served(index)
        samples, shuffle = list(index.test), EpochShuffle
        if self.val_fraction:
            validated = set(held_out(index, self.val_fraction))
            places = [place for place in range(len(samples)) if place not in validated]
            dataset, samples = Subset(dataset, places), [samples[place] for place in places]
        if self.mosaic:
            dataset, shuffle = Mosaics(dataset, samples, self.mosaic, self.seed), NumberedShuffle
        batches = SharedBatches(shuffle(len(samples), self.seed), self.batch_size)
        return self._loader(dataset, self._workers(dataset), batch_sampler=batches)

    def val_dataloader(self) -> list[DataLoader[Batch]] | CombinedLoader:
        """Batches of the share of the auxiliary dataset that is held out; no loader where none is."""
        if not self.val_fraction:
            return NoLoaders()
        index = self._trained()
        held = Subset(self._served(index), held_out(index, self.val_fraction))
        return [self._in_order(held, self.eval_batch_size, self._workers(held))]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Batches of every target, in the order given; several processes share them, image by image."""
        self.find()
        if not self.targets:
            raise ConfigError("There is no target to test on; name at least one, such as targets=[mvtec].")
        tested = [self.tested(target) for target in self.targets]
        return [self._in_order(dataset, self.eval_batch_size, self._workers(dataset)) for dataset in tested]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """The same batches as in testing."""
        return self.test_dataloader()

    def dataset(self, index: DatasetIndex, augment: Augment | None = None) -> AnomalyDataset:
        """The test split of a dataset, preprocessed as this module's settings say."""
        return AnomalyDataset(index, self.image_size, mask_threshold=self.mask_threshold, augment=augment)

    def tested(self, index: DatasetIndex) -> Dataset[Item]:
        """What a target is evaluated on: its test split, corrupted if that is asked for, else from the cache."""
        if self.corruption is None:
            return self._served(index)
        return AnomalyDataset(index, self.image_size, mask_threshold=self.mask_threshold, corruption=self.corruption)

    def _trained(self) -> DatasetIndex:
        self.find()
        if self.auxiliary is None:
            raise ProtocolError("There is no auxiliary dataset to train on; give one by auxiliary=NAME.")
        return self.auxiliary

    def _served(self, index: DatasetIndex) -> Dataset[Item]:
        """The images of a dataset, from the cache if that holds these very images in this order."""
        cached = self.cached.get(index.name)
        if cached is not None and getattr(cached, "samples", index.test) == index.test:
            return cached
        return self.dataset(index)

    def _workers(self, dataset: Dataset[Item]) -> int:
        # Cached features are mapped into memory: a worker could only copy them once more.
        whole = dataset.dataset if isinstance(dataset, Subset) else dataset
        return 0 if any(whole is cached for cached in self.cached.values()) else self.num_workers


class OneDataset(AnomalyDataModule):
    """A data module of one dataset, which it trains on and which it tests."""

    @abstractmethod
    def _index(self) -> DatasetIndex:
        """Find the dataset on disk."""

    def _read(self) -> tuple[DatasetIndex | None, list[DatasetIndex]]:
        index = self._index()
        if self.categories is not None:
            index = index.only(self.categories)
        index = thinned(index, self.limit)
        return index, [index]


class Folder(OneDataset):
    """A dataset of one's own.

    Args:
        source: a folder in a layout that is recognised, or a file that lists or describes the dataset: meta.json, a
            table (.csv, .jsonl) or a spec (.yaml); or an index that was read before.

    The others are those of `AnomalyDataModule`.
    """

    def __init__(self, source: str | Path | DatasetIndex, **settings: Unpack[DataSettings]) -> None:
        super().__init__(**settings)
        self.source = source

    def _index(self) -> DatasetIndex:
        return self.source if isinstance(self.source, DatasetIndex) else load_index(self.source)

    def places(self) -> list[Path]:
        """The folder, or the file that lists the images."""
        return [self.source.root] if isinstance(self.source, DatasetIndex) else places_of(self.source)


class PublishedDataset(OneDataset):
    """A dataset of the catalogue; `cops-data list` says where it is from and how many images are expected.

    Args:
        root: the folder of the dataset, a file that lists it, or a folder that holds it under a usual name; default:
            the environment variable COPS_DATA_ROOT.

    The others are those of `AnomalyDataModule`.
    """

    catalog_name: ClassVar[str]

    def __init__(self, root: str | Path | None = None, **settings: Unpack[DataSettings]) -> None:
        super().__init__(**settings)
        self.root = root

    def _index(self) -> DatasetIndex:
        return load_index(self.catalog_name, self.root)

    def places(self) -> list[Path]:
        """The folder, or the file that lists the images."""
        return places_of(self.catalog_name, self.root)


class MVTecAD(PublishedDataset):
    """MVTec-AD (CC BY-NC-SA 4.0): photographs of industrial products and textures, 15 categories with masks."""

    catalog_name = "mvtec"


class VisA(PublishedDataset):
    """VisA (CC BY 4.0): photographs of boards, food and other objects, 12 categories with masks."""

    catalog_name = "visa"


class BTAD(PublishedDataset):
    """BTAD (CC BY-SA): photographs of three industrial products, with masks; the BeanTech anomaly detection set."""

    catalog_name = "btad"


class MPDD(PublishedDataset):
    """MPDD (CC BY-NC-SA 4.0): painted metal parts in varying positions and light, 6 categories with masks."""

    catalog_name = "mpdd"


class DTDSynthetic(PublishedDataset):
    """DTD-Synthetic (licence: none stated): textures with defects put in by a program, 12 categories with masks."""

    catalog_name = "dtd_synthetic"


class HeadCT(PublishedDataset):
    """HeadCT (licence: none stated): slices of heads; a haemorrhage is the anomaly. No masks, so no pixel metrics."""

    catalog_name = "headct"


class BrainMRI(PublishedDataset):
    """BrainMRI (licence: none stated): slices of brains; a tumour is the anomaly. No masks, so no pixel metrics."""

    catalog_name = "brainmri"


class Br35H(PublishedDataset):
    """Br35H (licence: none stated): slices of brains; a tumour is the anomaly. No masks, so no pixel metrics."""

    catalog_name = "br35h"


class ISIC(PublishedDataset):
    """ISIC 2016 (CC0, ISIC terms of use): lesions of the skin, with masks. No normal images, so no image metrics."""

    catalog_name = "isic"


class CVCColonDB(PublishedDataset):
    """CVC-ColonDB (research and education only): polyps, with masks. No normal images, so no image metrics."""

    catalog_name = "colondb"


class CVCClinicDB(PublishedDataset):
    """CVC-ClinicDB (research and education only): polyps, with masks. No normal images, so no image metrics."""

    catalog_name = "clinicdb"


class Kvasir(PublishedDataset):
    """Kvasir-SEG (research and education only): polyps, with masks. No normal images, so no image metrics."""

    catalog_name = "kvasir"


class Endo(PublishedDataset):
    """EndoTect 2020 (licence: none stated): polyps, with masks. No normal images, so no image metrics."""

    catalog_name = "endo"


class MagneticTile(PublishedDataset):
    """Magnetic tile defects (free to use, cite Huang et al. 2018), with masks; not among the thirteen."""

    catalog_name = "magnetic_tile"


class CopsDataModule(AnomalyDataModule):
    """One dataset to train on, and any number to test on: what the zero-shot protocol takes.

    The members say which data; all other settings are those of this module. What a member keeps by its own
    `categories` and `limit` is kept here.

    Args:
        auxiliary: the data module whose auxiliary dataset is trained on; None where nothing is trained.
        targets: the data modules whose targets are tested, each dataset at most once.
        categories: of the targets; each must be in one of them.
        evaluate_seen: names of targets that may be tested although the model was trained on the same categories.

    The others are those of `AnomalyDataModule`.
    """

    def __init__(
        self,
        auxiliary: AnomalyDataModule | None = None,
        targets: Sequence[AnomalyDataModule] = (),
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(**settings)
        self.auxiliary_module, self.target_modules = auxiliary, tuple(targets)

    @property
    def evaluate_seen(self) -> tuple[str, ...]:
        """The targets that may be tested although they were trained on: those named here, and the members' own."""
        own = (name for member in self.target_modules for name in member.evaluate_seen)
        return tuple(dict.fromkeys((*super().evaluate_seen, *own)))

    @property
    def _members(self) -> tuple[AnomalyDataModule, ...]:
        return (*self.target_modules, *([] if self.auxiliary_module is None else [self.auxiliary_module]))

    def places(self) -> list[Path]:
        """Those of all members."""
        return [place for member in self._members for place in member.places()]

    def _read(self) -> tuple[DatasetIndex | None, list[DatasetIndex]]:
        for member in self._members:
            member.locate()
        auxiliary = None if self.auxiliary_module is None else self.auxiliary_module.auxiliary
        if auxiliary is not None:
            auxiliary = thinned(auxiliary, self.limit)
        targets = told_apart(auxiliary, [target for member in self.target_modules for target in member.targets])
        if self.categories is not None:
            targets = only(targets, self.categories)
        return auxiliary, [thinned(target, self.limit) for target in targets]


class ImageFolder(ImageModule):
    """Images without labels, to predict on: nothing is known to be normal or anomalous.

    An image's category, which a method with hand-written prompts may name, is the folder that it lies in.

    Args:
        source: a folder, whose images are taken with those in its subfolders, by name; or a list of image files.
        image_size: side in pixels that images are resized to; default: that of the trainer's LightningModule.
        batch_size: images of a batch, of each process.
        num_workers: processes that decode images; 0 is the process itself.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        image_size: Count | None = None,
        batch_size: Count = 8,
        num_workers: Workers = 0,
    ) -> None:
        super().__init__(image_size, num_workers)
        self.source, self.batch_size = source, batch_size
        self.samples: tuple[Sample, ...] = ()

    def setup(self, stage: str) -> None:
        """List the images. Raises DatasetError where there is none, or a listed one does not exist."""
        self.samples = tuple(unlabelled(self.source))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of the images, in order; several processes share them, image by image."""
        if not self.samples:
            self.setup("predict")
        dataset = Preprocessed(self.samples, Preprocess(self.image_size, has_masks=False))
        return self._in_order(dataset, self.batch_size)


class NoLoaders(CombinedLoader):
    """What Lightning takes for an empty list of loaders; at a plain one it warns of a loader without batches."""

    def __init__(self) -> None:
        super().__init__([], "sequential")

    @property
    def flattened(self) -> list[Any]:
        """No loader."""
        return []

    @flattened.setter
    def flattened(self, flattened: list[Any]) -> None:
        """Lightning sets the loaders again, once it has looked at each of them."""


def told_apart(auxiliary: DatasetIndex | None, targets: Sequence[DatasetIndex]) -> list[DatasetIndex]:
    """The targets, each of another name: one that is called as another dataset before it gets its fingerprint added.

    A target with images of the auxiliary dataset of its name is that dataset, and keeps the name. Raises ConfigError
    where a dataset is among the targets twice.
    """
    known: dict[str, list[DatasetIndex]] = {}
    if auxiliary is not None:
        known[auxiliary.name.casefold()] = [auxiliary]
    named = []
    for target in targets:
        others = known.setdefault(target.name.casefold(), [])
        same = next((other for other in others if other is target or other.shares_images(target)), None)
        if same is not None and same is not auxiliary:
            raise ConfigError(f"targets holds {target.name} twice; name each dataset once.")
        others.append(target)
        is_new = same is None and len(others) > 1
        named.append(target.renamed(f"{target.name}-{target.fingerprint()[:8]}") if is_new else target)
    return named


def thinned(index: DatasetIndex, limit: int | None) -> DatasetIndex:
    """The dataset with about `limit` test images: of every category and label its share, at least one, evenly spaced.

    Without a limit, or where there are no more images, it is the very same.
    """
    if limit is None or len(index.test) <= limit:
        return index
    kept: list[Sample] = []
    for group in _groups(index):
        count = max(1, round(limit * len(group) / len(index.test)))
        kept += [index.test[group[i * len(group) // count]] for i in range(count)]
    return replace(index, test=tuple(kept))


def held_out(index: DatasetIndex, fraction: float) -> list[int]:
    """The places of the test images that are validated on: a share of every category and label, evenly spaced.

    A group of several images keeps at least one on each side; a single one stays in training.
    """
    places: list[int] = []
    for group in _groups(index):
        count = min(max(1, round(fraction * len(group))), len(group) - 1)
        places += [group[(2 * i + 1) * len(group) // (2 * count)] for i in range(count)]
    return sorted(places)


def _groups(index: DatasetIndex) -> list[list[int]]:
    """The places of the test images of each category and label."""
    groups: dict[tuple[str, int], list[int]] = {}
    for place, sample in enumerate(index.test):
        groups.setdefault((sample.category, sample.label), []).append(place)
    return list(groups.values())


def only(targets: Sequence[DatasetIndex], categories: Sequence[str]) -> list[DatasetIndex]:
    """The targets with these categories, each of which must be in one of them, as each target must have one of them."""
    known = [category for target in targets for category in target.categories]
    if unknown := next((category for category in categories if category not in known), None):
        names = ", ".join(target.name for target in targets)
        raise DatasetError(
            f"No target has a category '{unknown}'.{did_you_mean(unknown, known)} The targets {names} have: "
            f"{', '.join(known)}."
        )
    chosen = [(target, [name for name in categories if name in target.categories]) for target in targets]
    if empty := next((target for target, own in chosen if not own), None):
        raise DatasetError(
            f"{empty.name} has none of the categories {', '.join(categories)}; it has: {', '.join(empty.categories)}. "
            "Name one of them too, or leave the target out."
        )
    return [target.only(own) for target, own in chosen]


PUBLISHED: Mapping[str, type[PublishedDataset]] = {
    published.catalog_name: published for published in PublishedDataset.__subclasses__()
}


def find_data_module(
    source: str, *, root: str | Path | None = None, roots: Mapping[str, str] | None = None, **settings: Any
) -> AnomalyDataModule:
    """The data module of a dataset of the catalogue, by any usual spelling of its name, or of data at a path.

    Args:
        source: a name of the catalogue, else what `Folder` takes.
        root: the folder that holds the datasets of the catalogue; default: the environment variable COPS_DATA_ROOT.
        roots: folders of single datasets by name, which go before `root`.
        settings: those of `AnomalyDataModule`.
    """
    if (spec := spec_or_none(source)) is None:
        return Folder(source, **settings)
    own = next((folder for name, folder in (roots or {}).items() if spec_or_none(name) is spec), root)
    return PUBLISHED[spec.name](own, **settings)
