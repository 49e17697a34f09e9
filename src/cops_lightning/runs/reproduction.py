"""Repeating the paper's numbers: which runs it is, what they need, whether that is here, and what they take."""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from omegaconf import DictConfig

from cops_lightning.callbacks.feature_cache import CacheOptions, Encoding, FeatureCache
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.weight_files import RANDOM, WEIGHTS_VARIABLE
from cops_lightning.clip.weights import FROM_WEIGHTS, OWN, local_weights, published_file
from cops_lightning.config.check import check
from cops_lightning.config.options import composed, resolved
from cops_lightning.config.settings import EvalSettings, TrainSettings
from cops_lightning.core.devices import find_device
from cops_lightning.core.errors import CheckpointError, ConfigError, CopsError, WeightsError, listed
from cops_lightning.core.files import cache_folder
from cops_lightning.core.hashes import sha256_of
from cops_lightning.core.names import file_name
from cops_lightning.core.places import existing
from cops_lightning.core.types import Features
from cops_lightning.data.catalog import BENCHMARK, find_spec
from cops_lightning.data.datamodules import PublishedDataset, find_data_module, thinned
from cops_lightning.data.dataset import preprocess
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.readers.spec import DatasetSpec
from cops_lightning.data.tools.check import check as check_dataset
from cops_lightning.features import GB
from cops_lightning.metrics.pixels import pack_masks, pixel_scores
from cops_lightning.models.build import build, build_detector, find_node
from cops_lightning.models.checkpoint import read_checkpoint
from cops_lightning.models.cops import CoPS
from cops_lightning.models.released import METHODS
from cops_lightning.runs.apart import require_results_apart
from cops_lightning.runs.build import try_out
from cops_lightning.runs.identity import identify, run_id
from cops_lightning.runs.jobs import require_one_device
from cops_lightning.runs.state import read_entry

# Of each auxiliary dataset the experiment that trains on it, as the authors do.
EXPERIMENTS = {"visa": "visa_to_rest", "mvtec": "mvtec_to_visa"}
# How the authors' program reads images and masks.
AS_RELEASED = ("data.mask_threshold=released", "data.orientation=released")
RESERVE = GB  # of a disk that stays free
SHOWN = 4  # problems of a dataset that are spelled out
ENOUGH = 2.0  # seconds after which a measurement is not repeated
IMAGES = 8  # whose metrics are timed


@dataclass(frozen=True)
class Experiment:
    """One of the two commands that make up the paper's table.

    Args:
        auxiliary: what is, or was, trained on.
        targets: what is tested.
        checkpoint: released weights to evaluate; None to train.
        own: overrides of `cops-train` or `cops-eval`, without a seed.
        settings: further ones, which the user chose.
    """

    auxiliary: str
    targets: tuple[str, ...]
    checkpoint: Path | None
    own: tuple[str, ...]
    settings: tuple[str, ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.own, *self.settings)

    @property
    def program(self) -> Literal["train", "eval"]:
        """Which command it is of."""
        return "train" if self.checkpoint is None else "eval"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets that are read."""
        return self.targets if self.checkpoint else (self.auxiliary, *self.targets)

    def config(self, seed: int) -> DictConfig:
        """All settings of a run. Raises ConfigError where they cannot be composed."""
        config = _composed(self).copy()
        config.seed = seed
        return config

    def arguments(self, seeds: Sequence[int], *more: str) -> tuple[str, ...]:
        """The arguments of its command, for all seeds."""
        return ("-m", *self.overrides, *more, f"seed={','.join(map(str, seeds))}")

    def folder(self, seed: int) -> Path | None:
        """Where the run of a seed lies, None before it was begun."""
        config = self.config(seed)
        found = identify(config, {})
        name = run_id(found.method, resolved(found.config))
        study = Path(config.paths.runs) / file_name(config.study)
        return next(iter(study.glob(f"*-{name}")), None)

    def is_done(self, seed: int) -> bool:
        """Whether the run of a seed has results."""
        folder = self.folder(seed)
        return folder is not None and read_entry(folder).done

    def protocol(self) -> dict[str, Any]:
        """The settings that can change a number, as they are without those that the user chose."""
        return identify(replace(self, settings=()).config(0), {}).method_settings


@cache
def _composed(experiment: Experiment) -> DictConfig:
    """Once for all seeds: it takes a while."""
    return composed(*experiment.overrides, "seed=0", name=experiment.program)


def experiments(
    targets: Sequence[str], common: Sequence[str], settings: Sequence[str], released: Mapping[str, Path]
) -> list[Experiment]:
    """The commands that test these datasets; with `released` weights, by what they were trained on, only theirs.

    Args:
        targets: names of the catalogue.
        common: overrides of every run, which the experiment's and the readings of the authors' program come before.
        settings: further ones, which come last.
        released: checkpoints to evaluate in place of training.
    """
    found = []
    for auxiliary, name in EXPERIMENTS.items():
        own = tuple(target for target in targets if (target == "visa") == (auxiliary == "mvtec"))
        checkpoint = released.get(auxiliary)
        if not own or (released and checkpoint is None):
            continue
        of_file = [] if checkpoint is None else [f"checkpoint={quoted(checkpoint)}", f"study=released_{name}"]
        # All of them are the experiment's own, whose runs may be there already.
        fewer = (
            [] if len(own) == (1 if auxiliary == "mvtec" else len(BENCHMARK) - 1) else [f"targets=[{','.join(own)}]"]
        )
        overrides = (f"experiment={name}", *of_file, *common, *fewer, *AS_RELEASED)
        found.append(Experiment(auxiliary, own, checkpoint, overrides, tuple(settings)))
    return found


def quoted(value: object) -> str:
    """A value as Hydra's grammar takes it, whatever characters it has."""
    text = str(value)
    if text and all(letter.isalnum() or letter in "_-./" for letter in text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- what is needed


@dataclass(frozen=True)
class Need:
    """Something that the runs need.

    Args:
        what: it is.
        expected: which one.
        found: what is here, "" where nothing is.
        wrong: sentences on what is missing or wrong; none where all is well.
        source: where to get it.
        root: the folder of a dataset.
        index: the dataset, where all is well with it.
    """

    what: str
    expected: str
    found: str = ""
    wrong: tuple[str, ...] = ()
    source: str = ""
    root: Path | None = None
    index: DatasetIndex | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.expected}" + (f"; {self.found}" if self.found else "")


@dataclass
class Plan:
    """What is to be run; once it was looked at also what it needs, and the frozen CLIP where its weights are here.

    `explain` says in a sentence what is wrong with settings.
    """

    experiments: list[Experiment]
    seeds: Sequence[int]
    explain: Callable[[CopsError], str] = str
    needs: list[Need] = field(default_factory=list)
    backbone: FrozenClip | None = None

    @property
    def problems(self) -> list[Need]:
        """What is missing or wrong."""
        return [need for need in self.needs if need.wrong]

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """The names of all datasets that are read, each once."""
        return tuple(dict.fromkeys(name for experiment in self.experiments for name in experiment.datasets))

    def look(self) -> Iterator[Need]:
        """What is needed and what is here of it, one after the other, each looked at whole.

        Nothing is run, and nothing is written but what is remembered of hashes of files.
        """
        configs = {}
        for experiment in self.experiments:
            try:
                configs[experiment] = self._checked(experiment)
            except CopsError as error:
                need = Need("settings", "what the commands take", wrong=(self.explain(error),))
                if need not in self.needs:  # both experiments have most settings in common
                    yield self._noted(need)
                configs[experiment] = replace(experiment, settings=()).config(self.seeds[0])  # for what else is wrong
        first = configs[self.experiments[0]]
        yield self._noted(self._weights(first))
        for name in self.datasets:
            yield self._noted(dataset_need(name, resolved(first.paths)))
        for experiment, config in configs.items():
            if experiment.checkpoint is not None:
                yield self._noted(self._checkpoint(experiment, config))

    def _noted(self, need: Need) -> Need:
        self.needs.append(need)
        return need

    def _checked(self, experiment: Experiment) -> DictConfig:
        config = experiment.config(self.seeds[0])
        settings = resolved(config)
        check(settings, TrainSettings if experiment.checkpoint is None else EvalSettings)
        require_one_device(settings)
        require_results_apart(config, "paths.runs")
        try_out(config)
        return config

    def _weights(self, config: DictConfig) -> Need:
        node = resolved(config.backbone)
        name, pretrained = str(node.get("name")), str(node.get("pretrained"))
        wanted = published_file(name) if pretrained == "openai" else None
        expected = f"{name}, SHA-256 {wanted[0]}" if wanted else f"{name}, {pretrained} weights"
        way = f"name the file by weights=FILE or the environment variable {WEIGHTS_VARIABLE}"
        source = f"{wanted[1]}; then {way}" if wanted else way
        found = ""
        try:
            file = None if pretrained == RANDOM else local_weights(name, pretrained, node.get("weights"))
            if file is not None and not file.is_file():
                raise WeightsError(f"There is no file {file}.")
            if file is None and (wanted or pretrained == OWN or name == FROM_WEIGHTS):
                raise WeightsError("They are not on this machine.")
            checksum = None if file is None else sha256_of(file, WeightsError)
            if wanted and checksum != wanted[0]:
                raise WeightsError(
                    f"{file} has SHA-256 {checksum}, so it is another file than OpenAI's, or a damaged one."
                )
            self.backbone = build(node, "backbone")
            found = f"found as {file}, SHA-256 {checksum}" if file else self.backbone.record.origin
        except CopsError as error:
            return Need("weights", expected, wrong=(str(error),), source=source)
        return Need("weights", expected, found)

    def _checkpoint(self, experiment: Experiment, config: DictConfig) -> Need:
        assert experiment.checkpoint is not None
        what, path = f"checkpoint of {experiment.auxiliary}", experiment.checkpoint
        expected = f"the authors' weights of CoPS, trained on {find_spec(experiment.auxiliary).title}"
        source = "the repository cqylunlun/CoPS of the authors"
        try:
            read = read_checkpoint(path)
            if read.saved is not None:
                raise CheckpointError(
                    f"{path} is a checkpoint of this library, not one of the authors'. Its run has results already; "
                    "cops-eval scores more datasets with it."
                )
            if read.method != "cops":
                raise CheckpointError(f"{path} is a released checkpoint of {METHODS[read.method]}, not of CoPS.")
            if self.backbone is not None:
                read.fill(_detector(experiment, config, self.backbone))
        except CopsError as error:
            return Need(what, expected, wrong=(str(error),), source=source)
        return Need(what, expected, f"found as {path}, SHA-256 {sha256_of(path, CheckpointError)}")


def dataset_need(name: str, paths: Mapping[str, Any]) -> Need:
    """A published dataset, compared with the catalogue: found, complete, all files whole, masks as they should be.

    `paths` are those of the configuration.
    """
    spec = find_spec(name)
    module = find_data_module(name, root=paths["data"], roots=paths["datasets"])
    root = module.root if isinstance(module, PublishedDataset) else None
    expected = f"{spec.title}, {_counted(spec)}"
    source = f"{spec.url} (licence: {spec.licence}), into a folder called {listed(spec.folders, 3)}"
    if root is not None and not Path(root).expanduser().exists():
        return Need(name, expected, wrong=(f"{root} does not exist.",), source=source)
    report = check_dataset(name, root, exact=False, deep=True)
    if report.problems:
        more = len(report.problems) - SHOWN
        wrong = report.problems[:SHOWN]
        if more > 0:
            wrong = (*wrong, f"And {more} more: cops-data check {name} {report.root} lists them.")
        return Need(name, expected, wrong=tuple(wrong), source=source, root=report.root)
    index = load_index(name, root)
    found = f"found in {report.root}, {report.layout}, fingerprint {report.fingerprint}"
    return Need(name, expected, found, root=index.root, index=index)


def _counted(spec: DatasetSpec) -> str:
    normal, anomalous = (sum(getattr(of, key) for of in spec.counts.values()) for key in ("normal", "anomalous"))
    kinds = [f"{count:,} {kind}" for count, kind in ((normal, "normal"), (anomalous, "anomalous")) if count]
    many = f" in {len(spec.counts)} categories" if len(spec.counts) > 1 else ""
    return f"{normal + anomalous:,} test images ({', '.join(kinds)}){many}"


def _detector(experiment: Experiment, config: DictConfig, backbone: FrozenClip) -> CoPS:
    node = (
        resolved(config.model)
        if config.get("model")
        else find_node("model", "cops", f"auxiliary={experiment.auxiliary}")
    )
    detector = build_detector(node, backbone)
    if not isinstance(detector, CoPS):
        raise ConfigError(f"model is {type(detector).__name__}; what the paper is about is CoPS. Leave model= out.")
    return detector


# ---- what it takes


@dataclass(frozen=True)
class Pace:
    """Seconds that the works take here: of an image to be decoded, encoded, scored and measured, of a training step."""

    decode: float
    encode: float
    score: float
    measure: float
    step: float


class Part(NamedTuple):
    """Bytes of something that the runs write below a folder."""

    bytes: int
    what: Literal["features", "checkpoints"]
    folder: Path


# How a disk that is full can be spared.
SPARED = {
    "features": "another disk for features by cache=FOLDER; half the space by "
    "settings=[callbacks.feature_cache.dtype=bf16], which is another protocol; none by "
    "settings=[callbacks.feature_cache=null], and far more time",
    "checkpoints": "another disk for checkpoints by runs=FOLDER",
}


@dataclass(frozen=True)
class Disk:
    """What the runs write onto one disk, of which `free` bytes are free."""

    parts: tuple[Part, ...]
    free: int

    @property
    def needed(self) -> int:
        """Bytes of all of it."""
        return sum(part.bytes for part in self.parts)

    def need(self) -> Need:
        """That it has no room."""
        written = [part for part in self.parts if part.bytes]
        return Need(
            "disk",
            ", ".join(f"{part.bytes / GB:.1f} GB of {part.what} in {part.folder}" for part in written),
            wrong=(f"{self.free / GB:.1f} GB are free there, of which {RESERVE / GB:.0f} GB is to stay free.",),
            source="; ".join(SPARED[part.what] for part in written),
        )


@dataclass(frozen=True)
class Estimate:
    """What is still to be done, by the pace of this machine.

    Args:
        device: where it was measured.
        pace: of this machine.
        images: to be encoded, each once; 0 where the cache has them all.
        jobs: runs that are not done, and `of`, all of them.
        encoding: seconds for all images.
        training: seconds for all runs.
        testing: the same.
        all_features: bytes of the features of all images, those that are there included; None where none are kept.
        disks: what is written where.
    """

    device: str
    pace: Pace
    images: int
    jobs: int
    of: int
    encoding: float
    training: float
    testing: float
    all_features: int | None
    disks: tuple[Disk, ...]

    @property
    def seconds(self) -> float:
        """Of all that is to be done, one after the other."""
        return self.encoding + self.training + self.testing

    @property
    def budget(self) -> float:
        """GB that the feature cache must be allowed, for no feature to be given back while others need it."""
        return max(50.0, math.ceil(1.05 * (self.all_features or 0) / GB) + 1.0)

    def room(self) -> list[Need]:
        """What is wrong of each disk that has no room."""
        return [disk.need() for disk in self.disks if disk.needed and disk.needed + RESERVE > disk.free]


def estimate(plan: Plan) -> Estimate:
    """How long the plan will take on this machine, by a measurement of some seconds, and how much disk.

    Jobs that are done, and features that are kept, are not counted again. Where weights are missing, random ones of
    the same shapes are measured. Raises CopsError where settings or backbone cannot be had.
    """
    experiment = plan.experiments[0]
    config = experiment.config(plan.seeds[0])
    settings = resolved(config)
    backbone = plan.backbone or build({**settings["backbone"], "pretrained": RANDOM, "weights": None}, "backbone")
    detector = _detector(experiment, config, backbone)
    device = find_device("cpu" if settings["trainer"]["accelerator"] == "cpu" else None)
    indexes = {need.what: need.index for need in plan.needs if need.index is not None}
    sample = next((index.test[0].image for index in indexes.values()), None)
    pace = _pace(detector.to(device), settings["data"], device, sample)
    cache = _cache(detector, settings)
    extents = {name: _extent(name, indexes.get(name), settings["data"], cache) for name in plan.datasets}
    work = {experiment: _work(experiment, plan.seeds, extents) for experiment in plan.experiments}
    read = {name for experiment, of in work.items() if of.runs for name in experiment.datasets}
    images = sum(extents[name].lacking for name in read)
    passes = images if cache is not None else sum(of.runs * (of.trained + of.tested) for of in work.values())
    each = 0 if cache is None else cache.store.key.entry_bytes + cache.store.key.image_size**2 // 8
    parts = [Part(_checkpoints(work, detector), "checkpoints", Path(config.paths.runs))]
    if cache is not None:
        parts.insert(0, Part(images * each, "features", cache.store.root))
    return Estimate(
        device=_named(device),
        pace=pace,
        images=images,
        jobs=sum(of.runs for of in work.values()),
        of=len(plan.experiments) * len(plan.seeds),
        encoding=passes * (pace.encode + pace.decode / max(1, int(settings["data"]["num_workers"]))),
        training=sum(of.runs * of.steps for of in work.values()) * pace.step,
        testing=sum(of.runs * of.tested for of in work.values()) * (pace.score + pace.measure),
        all_features=None if cache is None else each * sum(extent.images for extent in extents.values()),
        disks=_disks(parts),
    )


class _Extent(NamedTuple):
    """How many images of a dataset are read, and how many of them have no features yet."""

    images: int
    lacking: int


def _extent(name: str, index: DatasetIndex | None, data: Mapping[str, Any], cache: FeatureCache | None) -> _Extent:
    limit = data.get("limit")
    if index is None:  # it is missing, or wrong: as it was published
        whole = sum(of.normal + of.anomalous for of in find_spec(name).counts.values())
        count = whole if limit is None else min(limit, whole)
        return _Extent(count, count)
    images = [sample.image for sample in thinned(index, limit).test]
    return _Extent(len(images), len(images) if cache is None else cache.unencoded(images, data["orientation"]))


class _Work(NamedTuple):
    """What is to be done of an experiment: so many runs, each of so many steps and of images trained on and tested."""

    runs: int
    steps: int
    trained: int
    tested: int


def _work(experiment: Experiment, seeds: Sequence[int], extents: Mapping[str, _Extent]) -> _Work:
    runs = sum(not experiment.is_done(seed) for seed in seeds)
    tested = sum(extents[name].images for name in experiment.targets)
    if experiment.checkpoint is not None:
        return _Work(runs, 0, 0, tested)
    own = resolved(experiment.config(seeds[0]))
    images, epochs = extents[experiment.auxiliary].images, int(own["preset"]["epochs"])
    return _Work(runs, epochs * math.ceil(images / int(own["data"]["batch_size"])), epochs * images, tested)


def _checkpoints(work: Mapping[Experiment, _Work], detector: CoPS) -> int:
    """Bytes: weights with the two moments of Adam, and once more alone; evaluations keep none."""
    weights = sum(parameter.numel() * 4 for _, parameter in detector.released_parameters())
    return sum(4 * weights * of.runs for experiment, of in work.items() if experiment.checkpoint is None)


def _disks(parts: Sequence[Part]) -> tuple[Disk, ...]:
    """What is written, by the disk that it comes to lie on."""
    by_disk: dict[int, list[Part]] = {}
    for part in parts:
        by_disk.setdefault(existing(part.folder).stat().st_dev, []).append(part)
    return tuple(Disk(tuple(own), shutil.disk_usage(existing(own[0].folder)).free) for own in by_disk.values())


def _pace(detector: CoPS, data: Mapping[str, Any], device: torch.device, sample: Path | None) -> Pace:
    """Each work on made up inputs of the right size, which take as long as real ones; decoding on an image."""
    side, grid = detector.image_size, detector.image_size // detector.backbone.patch_size
    together = 1 if device.type == "cpu" else int(data["eval_batch_size"])
    batch = int(data["batch_size"])
    images = torch.randn(together, 3, side, side, device=device)
    with torch.no_grad():
        encode = _seconds(lambda: detector.encode(images).image.cpu()) / together
        one = detector.encode(images[:1])
        seen = Features(one.image.expand(together, -1), one.patches.expand(together, -1, -1))
        names = [str(number) for number in range(together)]
        score = _seconds(lambda: detector.score_features(seen, names=names).image.cpu()) / together
    several = Features(one.image.expand(batch, -1).clone(), one.patches.expand(batch, -1, -1).clone())
    masks = torch.zeros(batch, side, side, device=device)
    masks[::2, side // 3 : side // 2, side // 3 : side // 2] = 1
    labels = masks.flatten(1).amax(1).long()
    noise = torch.randn(batch, detector.backbone.width, device=device)

    def step() -> None:
        detector.losses(several, masks, labels, {"noise": noise})["total"].backward()  # type: ignore[no-untyped-call]
        detector.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step_seconds = _seconds(step)
    truth = torch.zeros(IMAGES, side, side, dtype=torch.bool)
    truth[::2, : side // 3] = True
    patches, packed = torch.rand(IMAGES, grid * grid), pack_masks(truth.numpy())
    expand = detector.expand.cpu()
    measure = _seconds(lambda: pixel_scores(patches, packed, expand)) / IMAGES
    decode = 0.0 if sample is None else _seconds(lambda: preprocess(sample, side))
    return Pace(decode, encode, score, measure, step_seconds)


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Of the fastest of some calls, after one that warms up."""
    work()
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < ENOUGH:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def _cache(detector: CoPS, settings: Mapping[str, Any]) -> FeatureCache | None:
    """The features that the runs will use, their folder not made yet; None where they use none."""
    node = settings["callbacks"].get("feature_cache")
    if not node:
        return None
    options = CacheOptions(cache_folder(node.get("folder")), node.get("dtype", "fp32"))
    encoding = Encoding(detector.device)
    return FeatureCache(options, detector.backbone, detector.image_size, encoding, [detector.request])


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
