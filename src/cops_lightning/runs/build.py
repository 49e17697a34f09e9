"""From a checked configuration to objects: the page to read first."""

import atexit
import inspect
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch.nn import Parameter

from cops_lightning.callbacks.results import Results
from cops_lightning.config.check import TARGET, check_node, locate
from cops_lightning.config.options import find_option, resolved
from cops_lightning.core.errors import ConfigError, not_installed
from cops_lightning.data.catalog import expand_targets
from cops_lightning.data.datamodules import AnomalyDataModule, PublishedDataset, find_data_module
from cops_lightning.models.build import build, build_further_metrics, build_partial
from cops_lightning.models.checkpoint import WholeFiles
from cops_lightning.models.module import CopsModule

# What loggers of Lightning, named by their modules, cannot do without: any of these modules; pip installs the last.
LOGGERS_NEED = {
    "lightning.pytorch.loggers.tensorboard": ("tensorboardX", "tensorboard"),
    "lightning.pytorch.loggers.mlflow": ("mlflow",),
    "lightning.pytorch.loggers.comet": ("comet_ml",),
    "lightning.pytorch.loggers.neptune": ("neptune",),
}
OF_OURS = ("tensorboard", "mlflow")  # of these those that are extras


def build_auxiliary(config: DictConfig) -> AnomalyDataModule | None:
    """What is trained on, without reading the disk; None where nothing is."""
    settings = resolved(OmegaConf.masked_copy(config, ["auxiliary", "paths", "seed", "preset"]))
    return None if settings["auxiliary"] is None else _member(settings["auxiliary"], settings)


def build_targets(config: DictConfig, auxiliary: str) -> list[AnomalyDataModule]:
    """A data module per target, without reading the disk; names of groups are expanded, less the auxiliary dataset.

    A target is the name of a file in conf/auxiliary, a path, or a node. Raises ConfigError if there is none, or one
    occurs twice.
    """
    settings = resolved(OmegaConf.masked_copy(config, ["targets", "paths", "seed"]))
    targets = settings["targets"]
    listed = list(targets) if isinstance(targets, list) else [targets]
    nodes = [target for target in listed if isinstance(target, Mapping)]
    names = [target for target in listed if not isinstance(target, Mapping)]
    sources = [*(expand_targets(names, auxiliary) if names or not nodes else ()), *nodes]
    return [_member(source, settings) for source in sources]


def find_targets(names: Sequence[str], paths: Mapping[str, Any]) -> list[AnomalyDataModule]:
    """The datasets of these names, found on disk; `paths` are those of the configuration."""
    targets = [_member(name, {"paths": dict(paths), "seed": 0}) for name in expand_targets(list(names))]
    for target in targets:
        target.find()
    return targets


def _member(source: Any, settings: Mapping[str, Any]) -> AnomalyDataModule:
    node, paths = source, settings["paths"]
    if isinstance(source, str):
        option = find_option("auxiliary", source)
        if option is None:
            return find_data_module(source, root=paths["data"], roots=paths["datasets"])
        node = resolved(OmegaConf.create({"paths": paths, "seed": settings["seed"], "node": option}))["node"]
        check_node("auxiliary", node)
    module = build(node, "auxiliary")
    if not isinstance(module, AnomalyDataModule):
        raise ConfigError(
            f"{node.get(TARGET)} gives a {type(module).__name__}; expected a data module of cops_lightning.data, or a "
            "subclass of one."
        )
    found: AnomalyDataModule = module
    if isinstance(found, PublishedDataset) and found.root == paths["data"]:
        found.root = (paths["datasets"] or {}).get(found.catalog_name, found.root)
    return found


def build_data(
    config: DictConfig, auxiliary: AnomalyDataModule | None, targets: Sequence[AnomalyDataModule]
) -> LightningDataModule:
    """The images of a run. A data module of one's own gets `auxiliary` and `targets` if it takes them."""
    node = resolved(config.data)
    takes = inspect.signature(locate(node[TARGET], "data")).parameters
    given = {"auxiliary": auxiliary, "targets": list(targets)}
    # hydra would turn data modules into configurations on the way in.
    made = build({**node, "_partial_": True}, "data")(**{key: value for key, value in given.items() if key in takes})
    if not isinstance(made, LightningDataModule):
        raise ConfigError(f"data._target_ gives a {type(made).__name__}; expected a LightningDataModule.")
    return made


def build_module(config: DictConfig, **more: Any) -> CopsModule:
    """The configured detector over the configured frozen CLIP, for Lightning."""
    return CopsModule(
        resolved(config.model),
        resolved(config.backbone),
        optimizer=resolved(config.optimizer) if config.get("optimizer") else None,
        scheduler=resolved(config.scheduler) if config.get("scheduler") else None,
        metrics=resolved(config.metrics),
        **more,
    )


def build_callbacks(config: DictConfig) -> list[Callback]:
    """The configured callbacks, `Results` before all others; those set to null are left out."""
    nodes = {name: node for name, node in resolved(config.callbacks).items() if node is not None}
    callbacks = [build(node, f"callbacks.{name}") for name, node in nodes.items()]
    # A run without results is none, whatever callbacks a user chooses; none of them may fail before they are written.
    own = [callback for callback in callbacks if isinstance(callback, Results)] or [Results(config.paths.output)]
    return [*own, *(callback for callback in callbacks if callback not in own)]


def build_loggers(config: DictConfig) -> list[Logger]:
    """The configured loggers."""
    return [build(node, f"logger.{name}") for name, node in resolved(config.logger).items() if node is not None]


def _require_packages(config: DictConfig) -> None:
    """Loggers are built once data is read, as their constructors may open files."""
    for name, node in resolved(config.logger).items():
        target = None if node is None else locate(node[TARGET], f"logger.{name}")
        for base in target.__mro__ if isinstance(target, type) else ():
            modules = LOGGERS_NEED.get(base.__module__, ())
            if modules and not any(map(find_spec, modules)):
                needed = f"cops_lightning[{modules[-1]}]" if modules[-1] in OF_OURS else modules[-1]
                raise ConfigError(not_installed(f"logger.{name}", needed))


def try_out(config: DictConfig) -> None:
    """Build whatever reads and writes nothing: a value that its class refuses is an error before anything is done.

    Raises ConfigError, naming what cannot be built.
    """
    nodes: dict[str, Any] = {key: resolved(config[key]) for key in ("preset", "corruption") if config.get(key)}
    parts = resolved(config.model) if config.get("model") else {}
    nodes |= {f"model.{key}": part for key, part in parts.items() if isinstance(part, Mapping) and TARGET in part}
    for key, node in nodes.items():
        build(node, key)
    build_callbacks(config)
    build_further_metrics(resolved(config.metrics))
    _require_packages(config)
    if config.get("optimizer"):
        optimizer = _called("optimizer", build_partial(resolved(config.optimizer)), [Parameter(torch.zeros(1))])
        if config.get("scheduler"):
            _called("scheduler", build_partial(resolved(config.scheduler)), optimizer)
    trainer = build_trainer(config, [], [])
    if trainer.max_epochs == -1 and trainer.max_steps == -1 and not config.trainer.get("max_time"):
        raise ConfigError("trainer.max_epochs is -1: training never ends. Add trainer.max_steps or trainer.max_time.")


def _called(what: str, factory: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        return factory(*given, **named)
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"{what} cannot be built ({error}). Check the settings below {what}.") from error


def build_trainer(
    config: DictConfig, callbacks: Sequence[Callback], loggers: Sequence[Logger], trains: bool = True
) -> Trainer:
    """Lightning's Trainer. Without `trains` it keeps no checkpoints."""
    node = resolved(config.trainer)
    if not trains:
        callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        node |= {"max_epochs": None, "enable_checkpointing": False}
    if node.get("devices") not in (1, "1") and node.get("strategy") in ("auto", "ddp"):
        # A batch without anomalies trains less than another, which processes that share batches must expect.
        node["strategy"] = "ddp_find_unused_parameters_true"
    node.setdefault("default_root_dir", config.paths.output)
    node.setdefault("enable_progress_bar", any(isinstance(callback, ProgressBar) for callback in callbacks))
    plugins = node.pop("plugins", None) or []
    plugins = list(plugins) if isinstance(plugins, list) else [plugins]
    given = {"callbacks": list(callbacks), "logger": list(loggers) or False, "plugins": [*plugins, WholeFiles()]}
    trainer = _called("trainer", build({**node, "_partial_": True}, "trainer"), **given)
    assert isinstance(trainer, Trainer)
    if trainer.world_size > 1:
        # Lightning's handler of SIGTERM waits for the other processes, which wait for this one.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        if trainer.strategy.launcher is not None:
            atexit.register(trainer.strategy.launcher.kill, signal.SIGKILL)
    return trainer
