"""Typed schema of `conf/`: every key that a configuration may have, with its type. A misspelt key is an error."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from cops_lightning.core.errors import ConfigError

PACKAGED = Path(__file__).parent / "conf"
CHECKOUT = Path(__file__).parents[2] / "conf"


def conf_folder() -> Path:
    """The folder of configurations: inside the installed package, or of the checkout that is installed editable."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


class Logger(Enum):
    """Where the curves of a run go, beside the run folder."""

    none = "none"
    wandb = "wandb"
    csv = "csv"
    tensorboard = "tensorboard"


class MaskRule(Enum):
    """Which values of a mask are anomalous: all but 0, or those above the threshold that fits the dataset."""

    released = "released"
    dataset = "dataset"


@dataclass
class BackboneConfig:
    """Which CLIP, whose weights, and the side in pixels to which images are resized.

    `precision` of the image tower is fp32, bf16 or fp16; `compile` runs it through torch.compile.
    """

    name: str = MISSING
    pretrained: str = MISSING
    weights: str | None = None
    image_size: int = MISSING
    deep_layers: int = 8
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False


def find_backbone(option: str) -> Any:
    """The entry of conf/backbone of that name, a BackboneConfig in all but type. ConfigError if there is none."""
    known = {path.stem: path for path in (conf_folder() / "backbone").glob("*.yaml")}
    if option not in known:
        raise ConfigError(f"There is no backbone {option}; expected one of {', '.join(sorted(known))}.")
    return OmegaConf.merge(OmegaConf.structured(BackboneConfig), OmegaConf.load(known[option]))


@dataclass
class AuxiliaryConfig:
    """The dataset that CoPS trains on, and what the authors chose for it (SPEC section 7).

    `source` is a catalogue name, or the path of a folder, meta.json, CSV, JSONL or YAML spec.
    """

    source: str = MISSING
    epochs: int = MISSING
    pool: int = MISSING
    alpha: float = MISSING
    beta: float = MISSING
    recon_weight: float = MISSING


@dataclass
class ModelConfig:
    """What detects anomalies: CoPS, or a baseline in its harness; see `compose.build_model`.

    `category_names` says what hand-written prompts call a category; by default its name in words.
    """

    name: str = "cops"
    category_names: dict[str, str] = field(default_factory=dict)


@dataclass
class ComponentsConfig:
    """Which parts of CoPS are there; see `model.Components`."""

    states: bool = True
    classes: bool = True
    spatial_weights: bool = True
    image_score: str = "mixed"
    deep_prompts: bool = True


@dataclass
class ReadingsConfig:
    """Where the released program and another sound reading differ; see `model.Readings`."""

    recon: str = "released"
    states: str = "released"
    deep: str = "released"
    upsampling: str = "nearest"
    distance_range: str = "image"
    latents: str = "image"


@dataclass
class SizesConfig:
    """How many tokens of each kind a prompt has; see `model.Sizes`."""

    prototypes: int = 6
    context: int = 6
    classes: int = 2
    deep_tokens: int = 4
    class_samples: int = 10


@dataclass
class DataConfig:
    """Where datasets lie and how they are read.

    `root` holds one folder per dataset; `roots` overrides the folder of single ones by name. `cache` is where
    procedural datasets are rendered to and features are kept. `limit` keeps that many images per dataset, spread
    evenly, for quick looks. `augment` lists albumentations transforms for training.
    """

    root: str | None = None
    roots: dict[str, str] = field(default_factory=dict)
    cache: str = "~/.cache/cops_lightning"
    batch_size: int = 8
    eval_batch_size: int = 8
    workers: int = 2
    limit: int | None = None
    mask_threshold: MaskRule = MaskRule.dataset
    augment: list[Any] = field(default_factory=list)


class StorageType(Enum):
    """Type in which features are kept: exact, or half the space at the precision of the type."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


@dataclass
class CacheConfig:
    """Features of the frozen image encoder, kept below `data.cache` so that it sees each image once.

    `budget_gb` bounds the space of all features there, in GB of 10^9 bytes; what was not used for longest goes first.
    """

    enabled: bool = True
    dtype: StorageType = StorageType.fp32
    budget_gb: float = 50


@dataclass
class CorruptionConfig:
    """What is done to test images, at a strength from 1 to 5; see `data.corruption`."""

    kind: str = "none"
    strength: int = 1


@dataclass
class OptimConfig:
    """Adam, as released."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)


@dataclass
class TrainerConfig:
    """What Lightning's Trainer runs on.

    Several `devices` (GPUs, or processes on a CPU) share every batch by `strategy` ddp; results are those of one.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    deterministic: bool = False
    progress: bool = True


@dataclass
class ReportConfig:
    """Heat maps per target, and the fixed colour scale that all of them share.

    `diagnostics`: after training, also look at the VAE, at latent draws and at domain shift, for `cops-report`.
    """

    heatmaps: int = 12
    scale_min: float = 0.0
    scale_max: float = 1.0
    diagnostics: bool = True


@dataclass
class LoggerConfig:
    """Experiment tracking. W&B goes offline by itself when there is no login."""

    kind: Logger = Logger.none
    project: str = "cops_lightning"


@dataclass
class TrainConfig:
    """`cops-train`: learn prompts on one auxiliary dataset, then evaluate them on the targets.

    `targets` is a list of names or paths, or one of them; `all`, `industrial` and `medical` stand for the benchmark's
    datasets of that kind, less the auxiliary one. `fail_fast` ends a sweep at its first failed job. `objective` is what
    a sweeper such as Optuna gets to optimise: TARGET/image_auroc or another metric of a target, in [0, 1].
    """

    study: str = "default"
    variant: str = "${model.name}"
    seed: int = 0
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    targets: Any = MISSING
    evaluate_seen: list[str] = field(default_factory=list)
    title: str | None = None
    fail_fast: bool = False
    objective: str | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    components: ComponentsConfig = field(default_factory=ComponentsConfig)
    readings: ReadingsConfig = field(default_factory=ReadingsConfig)
    sizes: SizesConfig = field(default_factory=SizesConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


@dataclass
class EvalConfig:
    """`cops-eval`: score targets with a trained checkpoint.

    `variant` and what the model is are read from a checkpoint that `cops-train` wrote; a released .pth needs
    `auxiliary` and `backbone`.
    """

    checkpoint: str = MISSING
    study: str = "default"
    variant: str | None = None
    seed: int = 0
    auxiliary: AuxiliaryConfig | None = None
    targets: Any = MISSING
    evaluate_seen: list[str] = field(default_factory=list)
    title: str | None = None
    fail_fast: bool = False
    objective: str | None = None
    backbone: BackboneConfig | None = None
    model: ModelConfig | None = None
    components: ComponentsConfig | None = None
    readings: ReadingsConfig | None = None
    sizes: SizesConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


def register() -> None:
    """Make the schemas known to Hydra, under the names that `conf/train.yaml` and `conf/eval.yaml` extend."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="eval_schema", node=EvalConfig)


def require_complete(config: Any) -> None:
    """Raise ConfigError naming every mandatory key that has no value; Hydra itself would wait until one is read."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        examples = {
            "targets": "targets=[mvtec]",
            "checkpoint": "checkpoint=runs/.../checkpoints/last.ckpt",
            "auxiliary.source": "auxiliary=visa",
        }
        hints = [examples.get(key, f"{key}=VALUE") for key in missing]
        raise ConfigError(f"The configuration leaves out {', '.join(missing)}. Add {' '.join(hints)} to the command.")
