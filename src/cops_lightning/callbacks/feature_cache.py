"""Features of whole datasets from the cache: what is missing is encoded once, then training and testing only read."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import xxhash
from annotated_types import Gt
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.request import DEFAULT, Request
from cops_lightning.core.choices import Precision
from cops_lightning.core.cluster import Actors, Cluster
from cops_lightning.core.distributed import from_all, from_first, rank, world_size
from cops_lightning.core.errors import CacheError, CopsError
from cops_lightning.core.files import cache_folder
from cops_lightning.core.hashes import hashes_of
from cops_lightning.core.progress import counted_progress
from cops_lightning.core.reporting import warn
from cops_lightning.core.types import DTYPES, Batch, Features, Sample
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.data.dataset import PREPROCESSING_VERSION, AnomalyDataset, Item, collate, loader
from cops_lightning.data.readers.images import Orientation, mask_files
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.masks import MaskThreshold
from cops_lightning.features import FOLDER, GB, Entry, FeatureKey, FeatureStore, make_room
from cops_lightning.models.detector import FeatureDetector
from cops_lightning.models.module import CopsModule, EncoderCount

WRITES_AHEAD = 2  # batches whose features wait to be written while the encoder goes on
HEADER = 512  # upper bound of a file's own bytes


@dataclass(frozen=True)
class CacheOptions:
    """Where features are kept: `folder` is the root of all stores, `budget` bounds their bytes, `dtype` their type."""

    folder: Path
    dtype: Precision = "fp32"
    budget: int = 50 * GB


class Names(NamedTuple):
    """Under which an image's features and its mask are kept; `mask` is None where there is no mask file."""

    image: str
    mask: str | None


class Plan(NamedTuple):
    """Names of all images of a dataset, the batches of places to encode, and the places that lack only their mask."""

    names: list[Names]
    unencoded: list[tuple[int, ...]]
    unmasked: list[int]

    @property
    def images(self) -> int:
        """How many images are to be encoded."""
        return sum(map(len, self.unencoded))


@dataclass(frozen=True)
class Encoding:
    """How missing features are computed: on which device, how images are loaded, and by whom.

    With a `cluster` so many of its processes, `actors`, load and encode; what they find is written by this one.
    """

    device: torch.device
    batch_size: int = 8
    workers: int = 0
    progress: bool = False
    cluster: Cluster | None = None
    actors: Actors = "auto"


class Job(NamedTuple):
    """A batch to encode: the places of its images, and the requests whose features are lacking."""

    places: tuple[int, ...]
    requests: list[Request]


Encoded = tuple[list[Features], Batch]  # features of each request, in the type they are kept in, and their batch


@dataclass(frozen=True)
class RemoteEncoding:
    """What a process of the cluster does: features of batches of a dataset, with as many threads as here."""

    backbone: FrozenClip
    dataset: AnomalyDataset
    device: str
    dtype: Precision
    threads: int

    def __call__(self, job: Job) -> Encoded:
        """The features, and the batch without its images."""
        torch.set_num_threads(self.threads)
        batch = collate([self.dataset[place] for place in job.places])
        self.backbone.to(self.device)
        return encode(self.backbone, batch, job.requests, torch.device(self.device), self.dtype)


class CachedDataset(Dataset[Item]):
    """One dataset as features and masks, mapped into memory: no image is decoded."""

    def __init__(self, store: FeatureStore, samples: Sequence[Sample], names: Sequence[Names], has_masks: bool) -> None:
        self.store, self.samples, self.names, self.has_masks = store, samples, names, has_masks

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Item:
        names = self.names[place]
        image, patches, name = self.store.read(names.image)
        return Item(None, self._mask(names.mask), self.samples[place], name, (image, patches))

    def _mask(self, name: str | None) -> Tensor | None:
        side = self.store.key.image_size
        if not self.has_masks:
            return None
        if name is None:
            return torch.zeros(side, side)
        bits = np.unpackbits(self.store.read_mask(name).numpy(), count=side * side)
        return torch.from_numpy(bits.reshape(side, side)).float()


class FeatureCache:
    """Features of one frozen encoder at one image size, for any dataset, as one or several detectors read them.

    Each request has a store of its own; what several lack of an image is encoded for all of them at once. The first
    request's store is the one that is read here.

    With several processes all must make the same calls; they share the work.
    """

    def __init__(
        self,
        options: CacheOptions,
        backbone: FrozenClip,
        image_size: int,
        encoding: Encoding,
        requests: Sequence[Request] = (DEFAULT,),
    ) -> None:
        self.options, self.backbone, self.encoding = options, backbone, encoding
        tower = backbone.tower(image_size)
        self.stores = {
            request: FeatureStore(
                options.folder / FOLDER,
                FeatureKey(
                    backbone.record.fingerprint,
                    backbone.image_encoder(request),
                    image_size,
                    PREPROCESSING_VERSION,
                    backbone.precision,
                    options.dtype,
                    tower.patches,
                    tower.joint,
                    request.patch_shape(tower),
                ),
            )
            for request in requests
        }
        self.store = self.stores[requests[0]]

    def dataset(self, index: DatasetIndex, mask_threshold: MaskThreshold, count: EncoderCount) -> CachedDataset:
        """The test split of a dataset from the cache, after encoding what is missing; adds to `count`.

        Raises CacheError where there is no room or no right to write, and DatasetError at the first image or mask that
        cannot be read.
        """
        decoded = AnomalyDataset(index, self.store.key.image_size, mask_threshold=mask_threshold)
        first = rank() == 0
        with ExitStack() as stack:
            failure, plan = None, Plan([], [], [])
            if first:
                try:
                    waiting = (
                        f"Another process adds features to the cache; waiting for it before those of {index.name}."
                    )
                    # In one order everywhere, so that two processes never wait for each other.
                    for store in sorted(self.stores.values(), key=lambda store: store.key.name):
                        store.create()
                        stack.enter_context(store.building(lambda: warn(waiting)))
                    plan = self._plan(decoded)
                except CacheError as error:
                    failure = str(error)
            failure, plan = from_first((failure, plan))
            if failure is not None:
                raise CacheError(failure)
            own_failure = None
            try:
                self._fill(decoded, plan, index.name)
            except CopsError as error:
                own_failure = error
            # All must end alike: a process that goes on alone would wait for the others for ever.
            failures = [error for error in from_all(own_failure) if error is not None]
            if failures:
                raise failures[0]
        if first:
            count.encoded += plan.images
            count.from_cache += len({names.image for names in plan.names}) - plan.images
        return CachedDataset(self.store, decoded.samples, plan.names, index.has_masks)

    def unencoded(self, images: Sequence[Path], orientation: Orientation) -> int:
        """How many of these images have no features here. Raises DatasetError where one cannot be read."""
        return sum(not self.store.holds(_image_name(digest, orientation)) for digest in hashes_of(images))

    def _plan(self, dataset: AnomalyDataset) -> Plan:
        names = self._names(dataset)
        images: dict[str, int] = {}
        unmasked: dict[str, int] = {}
        for place, (image, mask) in enumerate(names):
            images.setdefault(image, place)
            if mask is not None and not self._hold_mask(mask):
                unmasked.setdefault(mask, place)
        lacking = {
            store: {place for image, place in images.items() if not store.holds(image)}
            for store in self.stores.values()
        }
        missing = set(chain.from_iterable(lacking.values()))
        # Whole batches, always the same: an encoder rounds an image by its place in its batch, and a build that was
        # cut off in the midst of a batch has to end with the bytes of one that was not.
        places, size = tuple(images.values()), self.encoding.batch_size
        batches = [places[start : start + size] for start in range(0, len(places), size)]
        unencoded = [batch for batch in batches if not missing.isdisjoint(batch)]
        keep = {name for pair in names for name in pair if name is not None}
        needed = 0
        for store, of_store in lacking.items():
            key = store.key
            needed += len(of_store) * (key.entry_bytes + HEADER)
            needed += len(unmasked) * (key.image_size**2 // 8 + HEADER)
            make_room(store, needed, keep, self.options.budget)
            store.touch([pair.image for pair in names], [pair.mask for pair in names if pair.mask is not None])
        encoded = set(chain.from_iterable(unencoded))
        return Plan(names, unencoded, sorted(set(unmasked.values()) - encoded))

    def _names(self, dataset: AnomalyDataset) -> list[Names]:
        reading = dataset.preprocess
        masks = [mask_files(sample.mask) if sample.mask and reading.has_masks else None for sample in dataset.samples]
        files = [sample.image for sample in dataset.samples]
        digests = iter(hashes_of([*files, *chain.from_iterable(own or () for own in masks)]))
        images = [_image_name(next(digests), reading.orientation) for _ in files]
        names = []
        for image, own in zip(images, masks, strict=True):
            # The image is part of a mask's name because a mask is checked against the size of its image.
            parts = None if own is None else " ".join(next(digests) for _ in own)
            names.append(Names(image, None if parts is None else _mask_name(image, parts, reading.threshold)))
        return names

    def _fill(self, dataset: AnomalyDataset, plan: Plan, name: str) -> None:
        total = plan.images + len(plan.unmasked)
        shown = self.encoding.progress and total > 0 and rank() == 0
        with counted_progress(shown) as bar:
            step = bar.add_task(f"encoding {name}", total=total)

            def tick(images: int) -> None:
                bar.advance(step, images * world_size())

            self._encode(dataset, plan.unencoded, plan.names, tick)
            self._mask(dataset, plan.unmasked, plan.names, tick)

    def _encode(
        self,
        dataset: AnomalyDataset,
        batches: Sequence[Sequence[int]],
        names: Sequence[Names],
        tick: Callable[[int], None],
    ) -> None:
        own_batches = batches[rank() :: world_size()]
        jobs = [Job(tuple(places), self._lacking([names[place] for place in places])) for places in own_batches]
        if not jobs:
            return
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(max_workers=1) as writer:
            for job, (features, batch) in zip(jobs, self._encoded(dataset, jobs), strict=True):
                kept = {self.stores[request]: raw for request, raw in zip(job.requests, features, strict=True)}
                pending.append(writer.submit(self._write, [names[place] for place in job.places], kept, batch))
                if len(pending) > WRITES_AHEAD:
                    pending.popleft().result()
                tick(len(batch))
            for write in pending:
                write.result()

    def _lacking(self, names: Sequence[Names]) -> list[Request]:
        """The requests under which the features of one of these images are not here."""
        return [request for request, store in self.stores.items() if not all(store.holds(of.image) for of in names)]

    def _encoded(self, dataset: AnomalyDataset, jobs: Sequence[Job]) -> Iterator[Encoded]:
        """What is encoded, job by job, here or over the cluster."""
        device, dtype = self.encoding.device, self.store.key.dtype
        if self.encoding.cluster is not None:
            work = RemoteEncoding(self.backbone.cpu(), dataset, device.type, dtype, torch.get_num_threads())
            actors, gpu = self.encoding.actors, device.type != "cpu"
            yield from self.encoding.cluster.spread(work, jobs, actors=actors, gpu=gpu, named=lambda job: dataset.name)
            return
        self.backbone.to(device)
        # Only the last batch of all may be short, so a loader over the places of whole batches gives these batches.
        batches = self._batches(dataset, list(chain.from_iterable(job.places for job in jobs)))
        for job, batch in zip(jobs, batches, strict=True):
            yield encode(self.backbone, batch, job.requests, device, dtype)

    def _mask(
        self, dataset: AnomalyDataset, places: Sequence[int], names: Sequence[Names], tick: Callable[[int], None]
    ) -> None:
        share, done = places[rank() :: world_size()], 0
        for batch in self._batches(dataset, share):
            self._write_masks([names[place] for place in share[done : done + len(batch)]], batch)
            done += len(batch)
            tick(len(batch))

    def _batches(self, dataset: AnomalyDataset, places: Sequence[int]) -> DataLoader[Batch]:
        return loader(
            Subset(dataset, places),
            min(self.encoding.workers, len(places)),
            batch_size=self.encoding.batch_size,
            pin_memory=self.encoding.device.type == "cuda",
        )

    def _write(self, names: Sequence[Names], kept: Mapping[FeatureStore, Features], batch: Batch) -> None:
        for (store, features), (place, (own, sample)) in product(
            kept.items(), enumerate(zip(names, batch.samples, strict=True))
        ):
            image, patches = features.image[place], features.patches[place]
            if not (image.isfinite().all() and patches.isfinite().all()):
                raise CacheError(
                    f"The features of {sample.image} are not finite in {self.store.key.dtype}, computed in "
                    f"{self.store.key.precision}. Use callbacks.feature_cache.dtype=fp32 and backbone.precision=fp32."
                )
            if not store.holds(own.image):
                store.write(own.image, Entry(image, patches, batch.names[place]))
        self._write_masks(names, batch)

    def _write_masks(self, names: Sequence[Names], batch: Batch) -> None:
        if batch.masks is None:
            return
        for own, mask in zip(names, batch.masks, strict=True):
            if own.mask is not None and not self._hold_mask(own.mask):
                for store in self.stores.values():
                    store.write_mask(own.mask, torch.from_numpy(np.packbits(mask.numpy() > 0.5)))

    def _hold_mask(self, name: str) -> bool:
        return all(store.holds_mask(name) for store in self.stores.values())


def encode(
    backbone: FrozenClip, batch: Batch, requests: list[Request], device: torch.device, dtype: Precision
) -> Encoded:
    """Features of a batch, on the CPU in the type they are kept in, and the batch without its images."""
    assert batch.images is not None
    found = backbone.encode_images(batch.images.to(device, non_blocking=True), requests)
    kept = DTYPES[dtype]
    features = [Features(raw.image.to(kept).cpu(), raw.patches.to(kept).cpu()) for raw in found]
    return features, replace(batch, images=None)


class FeatureCaching(Callback):
    """Before training and before testing, replaces the data module's images by features from the cache.

    Where there is no room for them, or images are augmented or corrupted, it says so and leaves the images. Once a fit
    or a test is over the data module serves images again: another model may be next.

    Args:
        folder: of the cache; default: the environment variable COPS_CACHE, else ~/.cache/cops_lightning.
        dtype: in which features are kept: exact, or half the space at the precision of the type.
        budget_gb: space of all features there, in GB of 10^9 bytes; what was not used for longest goes first.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        dtype: Precision = "fp32",
        budget_gb: Annotated[float, Gt(0)] = 50.0,
    ) -> None:
        self.options = CacheOptions(cache_folder(folder), dtype, round(budget_gb * GB))
        self._leases = ExitStack()
        self._kept: tuple[AnomalyDataModule, FeatureKey, dict[str, Dataset[Item]]] | None = None
        self._key: FeatureKey | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Encode what is missing of the datasets of this stage."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        served = isinstance(data, AnomalyDataModule) and stage in ("fit", "validate", "test")
        if not served or not isinstance(pl_module, CopsModule) or not isinstance(pl_module.model, FeatureDetector):
            return
        if not pl_module.model.cacheable:
            _warn(f"{type(pl_module.model).__name__} learns within the image encoder: no features are cached.")
            return
        wanted = data.targets if stage == "test" else [data.auxiliary]
        if stage != "test" and data.changes_images:
            _warn("Training images are augmented, so their features differ in every epoch: they are not cached.")
            wanted = []
        if stage == "test" and data.corruption is not None:
            _warn("The targets are corrupted: their features are not cached.")
            wanted = []
        cache = FeatureCache(
            self.options,
            pl_module.model.backbone,
            data.image_size,
            Encoding(
                trainer.strategy.root_device,
                data.eval_batch_size,
                data.num_workers,
                trainer.progress_bar_callback is not None,
            ),
            [pl_module.model.request],
        )
        self._key = cache.store.key
        if self._kept is not None and self._kept[0] is data and self._kept[1] == self._key:
            data.cached.update(self._kept[2])
        lacking = [index for index in wanted if index is not None and index.name not in data.cached]
        if rank() == 0 and (lacking or data.cached):
            # Before the first is looked up, so that nobody gives back what this run counts on.
            with suppress(OSError):  # which the cache says itself, and goes without
                self._leases.enter_context(cache.store.in_use())
        for index in lacking:
            for is_last in (False, True):  # a disk that fails once changes no number
                try:
                    data.cached[index.name] = cache.dataset(index, data.mask_threshold, pl_module.count)
                    break
                except CacheError as error:
                    if is_last:
                        _warn(f"The features of {index.name} are not cached: {error}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that failed reads nothing any more."""
        self._leases.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Others may give back the store's space now, and another encoder may get the data module."""
        self._leases.close()
        if self._key is not None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            self._kept, self._key = (data, self._key, dict(data.cached)), None
            data.cached.clear()


def _image_name(digest: str, orientation: Orientation) -> str:
    """Other pixels may be seen of one file: its two readings have names of their own."""
    return digest if orientation == "viewer" else xxhash.xxh3_128_hexdigest(f"{digest} as stored".encode())


def _mask_name(image: str, mask: str, threshold: int) -> str:
    return xxhash.xxh3_128_hexdigest(f"{image} {mask} above {threshold}".encode())


def _warn(sentence: str) -> None:
    if rank() == 0:
        warn(sentence)
