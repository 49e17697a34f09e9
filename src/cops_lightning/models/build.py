"""From nodes, mappings with `_target_` and its arguments, to the objects that a LightningModule holds."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torchmetrics import Metric

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.config.check import PARTIAL, TARGET, check_node
from cops_lightning.config.options import default_nodes, options_of
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.core.measured import Level
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.models.detector import Detector

Node = Mapping[str, Any]
LEVELS: tuple[Level, ...] = ("image", "pixel")


def build(node: Node, what: str, **given: Any) -> Any:
    """The object of a node, with `given` as further arguments; `what` names it in errors.

    Raises the library's own errors as they are, and ConfigError for whatever else its constructor raises.
    """
    try:
        return instantiate(dict(node), **given, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, CopsError):
            raise cause from None
        said = str(cause or error).strip().splitlines()
        raise ConfigError(
            f"{what} cannot be built: {node.get(TARGET)} says {type(cause or error).__name__}: "
            f"{said[0] if said else 'nothing'}. Check the settings below {what}."
        ) from error


def find_node(group: str, given: str | Node, *overrides: str) -> Node:
    """A node itself, or that of the option of this name in conf/, with these overrides, checked.

    Raises ConfigError for an unknown name, and for overrides that do not fit.
    """
    if isinstance(given, Mapping):
        return given
    if given not in (known := options_of(group)):
        raise ConfigError(
            f"There is no {group} {given}.{did_you_mean(given, known)} Expected one of {', '.join(known)}."
        )
    node = default_nodes(f"{group}={given}", *overrides)[group]
    check_node(group, node)
    return cast(Node, node)


def build_backbone(backbone: FrozenClip | Node) -> FrozenClip:
    """The frozen CLIP itself, or that of a node."""
    return backbone if isinstance(backbone, FrozenClip) else cast(FrozenClip, build(backbone, "backbone"))


def build_detector(model: Node, backbone: FrozenClip | Node) -> Detector:
    """The detector of a node over a frozen CLIP. Raises ConfigError where the node builds something else."""
    # A part of the model that is another node gets no backbone.
    built = build(model, "model", backbone=build_backbone(backbone))
    if not isinstance(built, Detector):
        raise ConfigError(
            f"model._target_ is {model.get(TARGET)}, which gives a {type(built).__name__}; expected a subclass of "
            "cops_lightning.models.detector.Detector."
        )
    return built


def build_partial(factory: Callable[..., Any] | Node) -> Callable[..., Any]:
    """A function that lacks its first argument: itself, or that of a node."""
    if not isinstance(factory, Mapping):
        return factory
    return cast(Callable[..., Any], build({**factory, PARTIAL: True}, str(factory.get(TARGET))))


def build_further_metrics(metrics: Mapping[Any, Any]) -> dict[Level, dict[str, Metric]]:
    """Metrics by level and name; nodes among them are built. Raises ConfigError for another level or another object."""
    built: dict[Level, dict[str, Metric]] = {}
    for level, named in metrics.items():
        if level not in LEVELS or not isinstance(named, Mapping):
            raise ConfigError(
                f"metrics.{level} is no level of metrics; expected metrics.image.NAME or metrics.pixel.NAME."
            )
        for name, metric in named.items():
            made = build(metric, f"metrics.{level}.{name}") if isinstance(metric, Mapping) else metric
            if not isinstance(made, Metric):
                raise ConfigError(f"metrics.{level}.{name} is a {type(made).__name__}; expected a torchmetrics Metric.")
            built.setdefault(level, {})[str(name)] = made
    return built
