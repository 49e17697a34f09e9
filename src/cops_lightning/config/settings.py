"""The keys at the top of a configuration; those of every component below are the arguments of its class."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from annotated_types import Ge, Lt

Node = dict[str, Any]


@dataclass(frozen=True)
class Paths:
    """Where things lie.

    Args:
        root: the folder that `runs` and other places are given from.
        data: holds one folder per dataset; default: the environment variable COPS_DATA_ROOT.
        datasets: the folders of single datasets by name, where they are not below `data`.
        cache: rendered datasets and features of the frozen encoder; default: COPS_CACHE, or a folder in ~/.cache.
        runs: one folder per study.
        output: the folder of this run.
    """

    root: str = "."
    data: str | None = None
    datasets: dict[str, str] = field(default_factory=dict)
    cache: str | None = None
    runs: str = "runs"
    output: str = "."


@dataclass(frozen=True)
class Metrics:
    """Further torchmetrics by level and name, beside those that are always there.

    Args:
        image: of the images' scores.
        pixel: of the anomaly maps.
    """

    image: Node = field(default_factory=dict)
    pixel: Node = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What `cops-train` and `cops-eval` share.

    Args:
        study: runs of one study lie in one folder and are reported together.
        variant: what people call the method; default: the names of model, ablation and corruption.
        seed: of weights, order and draws.
        targets: names or paths of datasets to evaluate, or all, industrial, medical, procedural.
        evaluate_seen: targets that may be evaluated although they were trained on.
        title: of the table on the console.
        fail_fast: end a sweep at its first failed job.
        objective: TARGET/image_auroc or another metric, which a sweeper such as Optuna optimises.
    """

    targets: str | list[str | Node] | Node | None = None
    study: str = "default"
    variant: str | None = None
    seed: Annotated[int, Ge(0), Lt(2**63)] = 0
    evaluate_seen: list[str] = field(default_factory=list)
    title: str | None = None
    fail_fast: bool = False
    objective: str | None = None
    paths: Node = field(default_factory=dict)
    auxiliary: Node | None = None
    preset: Node | None = None
    backbone: Node | None = None
    model: Node | None = None
    data: Node = field(default_factory=dict)
    corruption: Node | None = None
    metrics: Node = field(default_factory=dict)
    trainer: Node = field(default_factory=dict)
    callbacks: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSettings(Settings):
    """`cops-train`: learn prompts on one auxiliary dataset, then evaluate them on the targets."""

    optimizer: Node | None = None
    scheduler: Node | None = None


@dataclass(frozen=True)
class EvalSettings(Settings):
    """`cops-eval`: score targets with a trained checkpoint, which says what the method and the seed are."""

    checkpoint: str = ""
    seed: Annotated[int, Ge(0), Lt(2**63)] | None = None  # type: ignore[assignment]


def open_keys(schema: type[Settings]) -> tuple[str, ...]:
    """Keys below which the command line may add others without `+`.

    They are checked against signatures, not against what the files in conf/ happen to state.
    """
    return tuple(f.name for f in fields(schema) if f.type in (Node, Node | None))
