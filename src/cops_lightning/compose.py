"""From a configuration to objects: the page to read first."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy, Strategy

from cops_lightning.callbacks.feature_cache import CacheOptions, FeatureCaching
from cops_lightning.callbacks.training_curves import TrainingCurves
from cops_lightning.clip.weights import load_backbone
from cops_lightning.config import (
    AuxiliaryConfig,
    BackboneConfig,
    CacheConfig,
    ComponentsConfig,
    CorruptionConfig,
    DataConfig,
    Logger,
    LoggerConfig,
    ModelConfig,
    ReadingsConfig,
    SizesConfig,
    TrainerConfig,
)
from cops_lightning.core.errors import ConfigError
from cops_lightning.data import BENCHMARK, CopsDataModule, Corruption, DatasetIndex, find_spec, load_index
from cops_lightning.demo import VERSION, write_mvtec
from cops_lightning.demo.writer import DATASETS, TARGETS
from cops_lightning.features import GB
from cops_lightning.loggers import CsvSink, Sink, TensorBoardSink, Tracker
from cops_lightning.models.baselines.clip import PlainClip
from cops_lightning.models.baselines.pixel_statistics import Brightness, HandCrafted
from cops_lightning.models.baselines.winclip import WinClip
from cops_lightning.models.checkpoint import WholeFiles
from cops_lightning.models.cops import Components, CoPS, Preset, Readings, Sizes
from cops_lightning.models.detector import Detector
from cops_lightning.report.tables import Run
from cops_lightning.runs.state import CHECKPOINT


@runtime_checkable
class MethodConfig(Protocol):
    """The groups that decide what a model computes."""

    auxiliary: AuxiliaryConfig
    backbone: BackboneConfig
    model: ModelConfig
    components: ComponentsConfig
    readings: ReadingsConfig
    sizes: SizesConfig
    seed: int


LEARNING = ("cops", "static_prompts")
WORDED: dict[str, type[PlainClip] | type[WinClip]] = {"clip": PlainClip, "winclip": WinClip}
WORDLESS: dict[str, type[HandCrafted] | type[Brightness]] = {"handcrafted": HandCrafted, "brightness": Brightness}
UNTRAINED = (*WORDED, *WORDLESS)


def build_model(config: MethodConfig) -> Detector:
    """The configured model over the configured frozen CLIP, with fresh weights of the configured seed.

    `static_prompts` is CoPS without states and classes. Raises ConfigError for another name, or where the components
    contradict it.
    """
    name, components = config.model.name, Components(**_values(config.components))
    if name not in (*LEARNING, *UNTRAINED):
        raise ConfigError(f"model.name is {name!r}; expected one of {', '.join((*LEARNING, *UNTRAINED))}.")
    if name == "static_prompts" and (components.states or components.classes):
        raise ConfigError(
            "static_prompts are prompts without states and classes, yet components turns "
            f"{'states' if components.states else 'classes'} on. Choose model=static_prompts, or model=cops with the "
            "components that you want."
        )
    backbone, auxiliary = config.backbone, config.auxiliary
    clip = load_backbone(**_values(backbone))
    readings = Readings(**_values(config.readings))
    if name in WORDLESS:
        return WORDLESS[name](clip, None, readings.upsampling)
    if name in WORDED:
        names = {str(key): str(value) for key, value in config.model.category_names.items()}
        return WORDED[name](clip, None, readings.upsampling, names)
    preset = Preset(auxiliary.epochs, auxiliary.pool, auxiliary.alpha, auxiliary.beta, auxiliary.recon_weight)
    sizes = Sizes(**_values(config.sizes))
    return CoPS(clip, preset, components=components, readings=readings, sizes=sizes, seed=config.seed)


def _values(group: Any) -> dict[str, Any]:
    return {str(key): group[key] for key in group}


def find_dataset(source: str, data: DataConfig) -> DatasetIndex:
    """The index of a dataset: by catalogue name below the data root, by path, or rendered into the cache."""
    if source in DATASETS:
        folder = Path(data.cache).expanduser() / f"procedural-{VERSION}" / source
        if not folder.is_dir():
            try:
                write_mvtec(folder, DATASETS[source])
            except OSError:
                # Another process that needed the same images may have been quicker.
                if not folder.is_dir():
                    raise
        return load_index(folder)
    return load_index(source, paths=dict(data.roots), data_root=data.root)


def find_targets(targets: Any, auxiliary: str, data: DataConfig) -> list[DatasetIndex]:
    """An index per target; names of groups are expanded. Raises ConfigError if there is none, or one occurs twice."""
    names = [targets] if isinstance(targets, str) else list(targets or ())
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"targets is {targets!r}; name at least one dataset, such as targets=[mvtec,btad] or targets=all."
        )
    expanded = [part for name in names for part in _expand(name, auxiliary)]
    found = [find_dataset(name, data) for name in expanded]
    twice = {index.name for index in found if sum(other.name == index.name for other in found) > 1}
    if twice:
        raise ConfigError(f"targets holds {', '.join(sorted(twice))} twice; name each dataset once.")
    return found


def _expand(name: str, auxiliary: str) -> tuple[str, ...]:
    """The datasets that a word in `targets` stands for. Groups leave out the auxiliary dataset: it is not zero-shot."""
    if name == "procedural":
        return tuple(member for member in TARGETS if member != auxiliary)
    if name in ("all", "industrial", "medical"):
        known = (member for member in BENCHMARK if name in ("all", find_spec(member).domain))
        return tuple(member for member in known if member != auxiliary)
    return (name,)


def build_data(
    config: DataConfig,
    corruption: CorruptionConfig,
    seed: int,
    auxiliary: DatasetIndex | None,
    targets: Sequence[DatasetIndex],
    image_size: int,
) -> CopsDataModule:
    """The images of a run; `auxiliary` is None where nothing is trained. Raises ConfigError for an unknown kind."""
    return CopsDataModule(
        auxiliary,
        targets,
        image_size,
        seed,
        config.batch_size,
        config.eval_batch_size,
        config.workers,
        config.limit,
        config.mask_threshold.value,
        _augmentation(config) if auxiliary else None,
        Corruption(corruption.kind, corruption.strength, seed) if corruption.kind != "none" else None,
    )


def _augmentation(data: DataConfig) -> Any:
    if not data.augment:
        return None
    # Imported where used: it takes seconds, and few runs augment.
    import albumentations

    return albumentations.Compose([instantiate(step) for step in data.augment])


def build_caching(config: CacheConfig, data: DataConfig) -> list[Callback]:
    """The callback that serves features from the cache; none where that is off."""
    if not config.enabled:
        return []
    folder = Path(data.cache).expanduser()
    return [FeatureCaching(CacheOptions(folder, config.dtype.value, round(config.budget_gb * GB)))]


def build_trainer(
    config: TrainerConfig,
    folder: Path,
    tracker: Tracker | None,
    epochs: int | None = None,
    more: Sequence[Callback] = (),
    masked: bool = True,
) -> Trainer:
    """Lightning's Trainer. With `epochs` it trains and keeps the last checkpoint in the run folder.

    `masked` says whether the auxiliary dataset has masks: without them the states take no gradient, which processes
    that share batches must expect.
    """
    callbacks: list[Callback] = [CalmProgressBar(leave=False)] if config.progress else []
    callbacks += more
    if epochs is not None and tracker is not None:
        callbacks.append(TrainingCurves())
    if epochs is not None:
        last = folder / CHECKPOINT
        callbacks.append(ModelCheckpoint(last.parent, filename=last.stem, enable_version_counter=False))
    return Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=_strategy(config, masked),
        use_distributed_sampler=False,  # the data module shares batches itself, without repeating an image
        precision=config.precision,  # type: ignore[arg-type]
        deterministic=config.deterministic,
        max_epochs=epochs,
        logger=tracker or False,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_checkpointing=epochs is not None,
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
    )


def _strategy(config: TrainerConfig, masked: bool) -> Strategy | str:
    if config.strategy not in ("auto", "ddp"):
        raise ConfigError(
            f"trainer.strategy is {config.strategy!r}; expected auto or ddp: the frozen encoder fits on every device, "
            "so nothing else is supported."
        )
    if config.devices == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=True)


class CalmProgressBar(RichProgressBar):
    """Lightning's bar, which would wait for the device at every step to show the loss; this one does at every tenth."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._shown: dict[str, Any] = {}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The loss of the last tenth step."""
        if trainer.global_step % 10 == 1 or not self._shown:
            self._shown = dict(super().get_metrics(trainer, pl_module))
        return self._shown


@contextmanager
def tracking(config: LoggerConfig, folder: Path, run: Run, record: Mapping[str, Any]) -> Iterator[Tracker | None]:
    """The configured experiment tracker for the duration of a run, finished however the run ends.

    `record` is the content of run.json: configuration, versions, hashes of backbone and data.
    """
    if config.kind is Logger.none:
        yield None
        return
    tracker = Tracker(
        run.run_id,
        folder,
        config.kind.value,
        lambda: _open_sink(config, folder, run, record),
        shows_curves=config.kind is Logger.wandb,
    )
    failed = True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


def _open_sink(config: LoggerConfig, folder: Path, run: Run, record: Mapping[str, Any]) -> Sink:
    match config.kind:
        case Logger.csv:
            return CsvSink(folder)
        case Logger.tensorboard:
            return TensorBoardSink(folder, record)
        case _:
            # Imported where used: it takes seconds.
            from cops_lightning.loggers.weights_and_biases import WandbRun, WandbSink

            provenance = {key: value for key, value in record.items() if key != "config"}
            targets = [found["name"] for found in record.get("data", ()) if found["role"] == "target"]
            filed = WandbRun(
                run_id=run.run_id,
                name=f"{run.variant}-{run.auxiliary}-seed{run.seed}",
                project=config.project,
                group=run.study,
                job_type=run.variant,
                tags=[
                    f"auxiliary:{run.auxiliary}",
                    *(f"target:{target}" for target in targets),
                    f"backbone:{record['backbone']['name']}",
                ],
                config={**record["config"], "provenance": provenance},
            )
            return WandbSink(folder, filed)
