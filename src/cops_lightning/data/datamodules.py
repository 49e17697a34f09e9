"""The LightningDataModule: one auxiliary dataset to train on, a list of targets to evaluate."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.processes import rank, world_size
from cops_lightning.core.seeding import named_generator
from cops_lightning.core.types import Batch, Sample
from cops_lightning.data.corruption import Corruption
from cops_lightning.data.dataset import AnomalyDataset, Augment, Item, MaskThreshold, loader
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.resolve import load_index


class EpochShuffle(Sampler[int]):
    """A permutation that is a function of (seed, epoch), so that a resumed run sees the same order."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = named_generator(self.seed, "shuffle", self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())

    def __len__(self) -> int:
        return self.size


class SharedBatches(Sampler[list[int]]):
    """Batches of a run of any number of processes, of which each process takes its share.

    `sampler` gives the same order to every process, and `batch_size` is that of the whole batch: what is trained on
    does not depend on the number of processes. Where there are fewer images than processes, a process without one gets
    the batch's first, for which `own` does not count.
    """

    def __init__(self, sampler: EpochShuffle, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.rank, self.processes = rank(), world_size()

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[self.rank :: self.processes] or batch[:1]

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def whole(self, batch_idx: int) -> int:
        """Images of a batch of an epoch, over all processes."""
        return min(self.batch_size, len(self.sampler) - batch_idx * self.batch_size)

    def own(self, batch_idx: int, of: int | None = None) -> int:
        """Images of a batch that this process, or process `of`, has to answer for."""
        return len(range(self.rank if of is None else of, self.whole(batch_idx), self.processes))


class CopsDataModule(LightningDataModule):
    """Loads the auxiliary dataset's test split for training (it has anomalies and masks) and the targets' test splits.

    `auxiliary` is None where nothing is trained. `limit` keeps that many images per dataset, spread evenly over them.
    `augment` is an albumentations transform of training images and their masks, `corruption` what is done to targets.

    `cached` may hold, by name, datasets whose items carry features: they are served in place of the images, except
    where those are augmented.
    """

    def __init__(
        self,
        auxiliary: DatasetIndex | None,
        targets: Sequence[DatasetIndex],
        image_size: int,
        seed: int = 0,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        workers: int = 0,
        limit: int | None = None,
        mask_threshold: MaskThreshold = "dataset",
        augment: Augment | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        super().__init__()
        self.corruption = corruption
        self.auxiliary, self.targets = auxiliary, list(targets)
        self.image_size, self.seed, self.workers, self.augment = image_size, seed, workers, augment
        self.batch_size, self.eval_batch_size, self.mask_threshold = batch_size, eval_batch_size, mask_threshold
        self.cached: dict[str, Dataset[Item]] = {}
        # With more processes than images of a target, some have none of it to evaluate.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if limit is not None:
            self.auxiliary = None if auxiliary is None else thinned(auxiliary, limit)
            self.targets = [thinned(target, limit) for target in self.targets]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the auxiliary dataset, shuffled anew every epoch."""
        if self.auxiliary is None:
            raise ProtocolError("There is no auxiliary dataset to train on; give one by auxiliary=NAME.")
        dataset = self._served(self.auxiliary) if self.augment is None else self.dataset(self.auxiliary, self.augment)
        order = EpochShuffle(len(self.auxiliary.test), self.seed)
        return self._loader(dataset, batch_sampler=SharedBatches(order, self.batch_size))

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Batches of every target, in the order given; of several processes, each gets every so manieth image."""
        return [
            self._loader(
                self.tested(target),
                sampler=range(rank(), len(target.test), world_size()),
                batch_size=self.eval_batch_size,
            )
            for target in self.targets
        ]

    def dataset(self, index: DatasetIndex, augment: Augment | None = None) -> AnomalyDataset:
        """The test split of a dataset, preprocessed as this module's settings say."""
        return AnomalyDataset(index, self.image_size, mask_threshold=self.mask_threshold, augment=augment)

    def tested(self, index: DatasetIndex) -> Dataset[Item]:
        """What a target is evaluated on: its test split, corrupted if that is asked for, else from the cache."""
        if self.corruption is None:
            return self._served(index)
        return AnomalyDataset(index, self.image_size, mask_threshold=self.mask_threshold, corruption=self.corruption)

    def _served(self, index: DatasetIndex) -> Dataset[Item]:
        return self.cached[index.name] if index.name in self.cached else self.dataset(index)

    def _loader(self, dataset: Dataset[Item], **batching: Any) -> DataLoader[Batch]:
        # Cached features are mapped into memory: a worker could only copy them once more.
        workers = 0 if dataset in self.cached.values() else self.workers
        pinned = torch.cuda.is_available()
        return loader(dataset, workers, pin_memory=pinned, persistent_workers=workers > 0, **batching)


def thinned(index: DatasetIndex, limit: int) -> DatasetIndex:
    """The dataset with at most `limit` test images, evenly spaced, so that every category and label keeps its share."""
    if len(index.test) <= limit:
        return index
    groups: dict[tuple[str, bool], list[Sample]] = {}
    for sample in index.test:
        groups.setdefault((sample.category, sample.anomalous), []).append(sample)
    kept: list[Sample] = []
    for group in groups.values():
        count = max(1, round(limit * len(group) / len(index.test)))
        kept += [group[i * len(group) // count] for i in range(count)]
    return replace(index, test=tuple(kept))


class PublishedDataset(CopsDataModule):
    """One of the benchmark's datasets, to train on (its test split, as CoPS does) and to evaluate.

    `root` is the dataset's folder, or one that holds it under a usual name. `options` are those of `CopsDataModule`.
    Raises DatasetError where the folder does not hold the dataset in a known layout.
    """

    catalog_name: ClassVar[str]

    def __init__(self, root: str | Path, image_size: int = 518, **options: Any) -> None:
        index = load_index(self.catalog_name, root)
        super().__init__(index, [index], image_size, **options)


def _published(name: str, catalog_name: str) -> type[PublishedDataset]:
    members = {"catalog_name": catalog_name, "__doc__": PublishedDataset.__doc__, "__module__": __name__}
    return type(name, (PublishedDataset,), members)


MVTecAD = _published("MVTecAD", "mvtec")
VisA = _published("VisA", "visa")
BTAD = _published("BTAD", "btad")
MPDD = _published("MPDD", "mpdd")
DTDSynthetic = _published("DTDSynthetic", "dtd_synthetic")
HeadCT = _published("HeadCT", "headct")
BrainMRI = _published("BrainMRI", "brainmri")
Br35H = _published("Br35H", "br35h")
ISIC = _published("ISIC", "isic")
CVCColonDB = _published("CVCColonDB", "colondb")
CVCClinicDB = _published("CVCClinicDB", "clinicdb")
Kvasir = _published("Kvasir", "kvasir")
Endo = _published("Endo", "endo")
