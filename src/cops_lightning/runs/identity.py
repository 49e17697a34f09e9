"""What a run is: its method, the hash of all settings that can change its numbers, and its own id."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cops_lightning.clip.weight_files import LOCAL_DIRECTORY, weights_fingerprint
from cops_lightning.config.check import TARGET, locate
from cops_lightning.config.options import resolved
from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.hashes import hashes_of, settings_hash, sha256_of
from cops_lightning.core.names import file_name
from cops_lightning.data.readers.images import mask_files
from cops_lightning.data.readers.index import DatasetIndex

# Settings that cannot change a number. At the top: what is evaluated, what it is called, what is done with it ...
NAMES = ("study", "variant", "title", "fail_fast", "objective", "targets", "evaluate_seen", "checkpoint")
SHOWN = ("paths", "logger", "metrics")
# ... and in components: where files lie, what computes, what is shown.
PLACES: dict[str, tuple[str, ...]] = {
    "auxiliary": ("_target_", "name", "root", "cache", "source"),  # which dataset it is stands beside the method
    "backbone": ("compile",),
    "data": ("num_workers", "evaluate_seen"),
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "deterministic",
        "default_root_dir",
        "enable_checkpointing",
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
        "logger",
        "num_sanity_val_steps",
        "profiler",
    ),
}
# Callbacks that watch and write. Others, such as early stopping, may change what is learnt.
WATCHING = tuple(
    f"cops_lightning.callbacks.{name}"
    for name in ("training_curves", "similarity", "results", "heat_maps", "evaluation", "diagnostics", "progress")
)
CACHE = "cops_lightning.callbacks.feature_cache"
CHECKPOINTS = "lightning.pytorch.callbacks.ModelCheckpoint"
# What trains; without it a detector has none of these settings.
TRAINING = ("auxiliary", "preset", "optimizer", "scheduler")
# Settings of data and trainer that decide how targets are scored, whatever was trained.
SCORING = ("categories", "image_size", "limit", "mask_threshold", "blank_masks", "orientation")
COMPUTING = ("precision", "limit_test_batches", "fast_dev_run", "plugins")


def method_settings(config: DictConfig) -> dict[str, Any]:
    """All settings of a run that can change its numbers, the seed left out, as plain values.

    Settings that a detector has no use for, such as the auxiliary dataset of one that learns nothing, are left out.
    Raises WeightsError where a file of the backbone cannot be read.
    """
    # `data.seed` and its like follow `seed`; one that is pinned is a setting of its own.
    plain, seeded = alone(config), []
    for seed in (0, 1):
        plain.seed = seed
        seeded.append(resolved(plain))
    unseeded = _common(*seeded)
    settings = {key: value for key, value in unseeded.items() if key not in (*NAMES, *SHOWN) and value}
    if not learns(settings.get("model")):
        settings = {key: value for key, value in settings.items() if key not in TRAINING}
    for group, names in PLACES.items():
        if isinstance(settings.get(group), Mapping):
            settings[group] = {key: value for key, value in settings[group].items() if key not in names}
    if not learns(settings.get("model")) and isinstance(settings.get("trainer"), Mapping):
        settings["trainer"] = {key: value for key, value in settings["trainer"].items() if key in COMPUTING}
        if str(settings["data"][TARGET]).startswith("cops_lightning."):
            kept = (TARGET, "corruption", *SCORING)
            settings["data"] = {key: value for key, value in settings["data"].items() if key in kept}
    if not _depends_on_batches(settings.get("model")) and isinstance(settings.get("data"), Mapping):
        settings["data"] = {key: value for key, value in settings["data"].items() if key != "eval_batch_size"}
    if source := (unseeded.get("auxiliary") or {}).get("source"):
        # Two datasets of one's own may have one name.
        settings["auxiliary"] = {**settings.get("auxiliary", {}), "source": str(Path(str(source)).absolute())}
    acting: dict[str, Any] = dict(_acting(settings.get("callbacks") or {}))
    settings["callbacks"] = acting
    if backbone := settings.get("backbone"):
        settings["backbone"] = {**backbone, "weights": weights_fingerprint(backbone)}
        if str(backbone.get("name")).startswith(LOCAL_DIRECTORY):
            settings["backbone"]["name"] = LOCAL_DIRECTORY
    return {key: value for key, value in settings.items() if value not in (None, {}, [])}


def evaluation_settings(trained: Mapping[str, Any], config: DictConfig) -> dict[str, Any]:
    """The settings of an evaluation of a checkpoint: those it was trained under, and what is scored otherwise."""
    own = method_settings(config)
    settings: dict[str, Any] = dict(trained)
    settings |= {key: own[key] for key in ("model", "backbone", "auxiliary", "preset") if key in own}
    if own.get("corruption") != trained.get("corruption"):
        settings["corruption"] = own.get("corruption")
    if trained:
        before = _scoring(trained)
        other = {key: value for key, value in _scoring(own).items() if value != before[key]}
        if other:
            settings["scored"] = other
    else:  # a checkpoint that says nothing of how it was trained is a method of its own
        settings |= {**own, "checkpoint": sha256_of(Path(config.checkpoint), CheckpointError)}
    return {key: value for key, value in settings.items() if value is not None}


def _scoring(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of a method's settings those that decide how targets are scored, whatever was trained."""
    data, trainer = settings.get("data", {}), settings.get("trainer", {})
    return {
        **{key: data.get(key) for key in SCORING},
        **{key: trainer.get(key) for key in COMPUTING},
        "callbacks": settings.get("callbacks"),
        # `data.corruption` follows `corruption`, which is compared by itself.
        "corruption": None
        if data.get("corruption") == settings.get("corruption")
        else data.get("corruption") or "none",
    }


def run_id(method: str, config: Mapping[str, Any]) -> str:
    """The name of a run's folder: equal for equal method, auxiliary dataset, seed, study, targets and checkpoint."""
    what = {key: config.get(key) for key in ("seed", "study", "targets", "evaluate_seen", "metrics")}
    auxiliary = (config.get("auxiliary") or {}) if learns(config.get("model") or None) else {}
    trained_on = [auxiliary.get(TARGET), auxiliary.get("name")]
    return settings_hash({"method": method, "auxiliary": trained_on, "checkpoint": _checkpoint(config), **what})


def run_key(identity: "Identity", weights: str | None, auxiliary: Sequence[str], targets: Sequence[str]) -> str:
    """The name of what decides a run's numbers: its settings and seed, and the content of what it reads.

    It is equal for equal content, wherever that lies and whatever it is called.

    Args:
        weights: `weights_fingerprint` of the frozen CLIP.
        auxiliary: `data_content` of what is trained on, if anything is.
        targets: `data_content` of each.
    """
    config = resolved(identity.config)
    settings = dict(identity.method_settings)
    settings["auxiliary"] = {key: value for key, value in settings.get("auxiliary", {}).items() if key != "source"}
    what = {key: config.get(key) for key in ("seed", "study", "metrics")}
    return settings_hash([settings, what, weights, auxiliary, targets, _checkpoint(config)])


def data_content(index: DatasetIndex) -> str:
    """A hash over all that a run sees of a dataset: its images and masks in order, their content, and what they are.

    Raises DatasetError where a file cannot be read.
    """
    files = [[s.image, *([] if s.mask is None else mask_files(s.mask))] for s in index.test]
    contents = iter(hashes_of([path for own in files for path in own]))
    seen = [
        [s.category, s.defect, s.anomalous, [next(contents) for _ in own]]
        for s, own in zip(index.test, files, strict=True)
    ]
    return settings_hash([index.has_masks, index.mask_threshold, seen])


def _checkpoint(config: Mapping[str, Any]) -> str | None:
    return sha256_of(Path(config["checkpoint"]), CheckpointError) if config.get("checkpoint") else None


@dataclass(frozen=True)
class Identity:
    """What a configuration is: itself with a seed, what people call the method, and the method's settings."""

    config: DictConfig
    variant: str
    method_settings: dict[str, Any]

    @property
    def method(self) -> str:
        """The hash of the method's settings."""
        return settings_hash(self.method_settings)


def identify(config: DictConfig, choices: Mapping[str, Any]) -> Identity:
    """The identity of a job; what the command line does not say of an evaluation, its checkpoint does.

    Raises CheckpointError where that cannot be read.
    """
    if not config.get("checkpoint"):
        return Identity(config, label(config, choices), method_settings(config))
    from cops_lightning.models.checkpoint import read_checkpoint

    saved = read_checkpoint(Path(config.checkpoint)).saved
    run = saved.run if saved else {}
    config = config.copy()
    if config.seed is None:
        config.seed = int(run.get("seed", 0))
    variant = label(config, choices)
    if not config.get("variant") and run.get("variant"):
        variant = "-".join([str(run["variant"]), *_corruption(config)])
    return Identity(config, variant, evaluation_settings(run.get("method_settings", {}), config))


def learns(model: Any) -> bool:
    """Whether the detector that a node names is trained. True without a node: a checkpoint was trained."""
    from cops_lightning.models.detector import TrainableDetector

    if not isinstance(model, Mapping):
        return True
    target = locate(model[TARGET], "model")
    return not isinstance(target, type) or issubclass(target, TrainableDetector)


def label(config: DictConfig, choices: Mapping[str, Any]) -> str:
    """What people call the method: as they say by `variant`, else the chosen model, ablation and corruption."""
    if config.get("variant"):
        return str(config.variant)
    parts = [str(choices[group]) for group in ("model", "ablation") if choices.get(group) not in (None, "none")]
    if choices.get("ablation") not in (None, "none") and choices.get("model") == "cops":
        parts = parts[1:]
    return "-".join([*parts, *_corruption(config)]) or "evaluation"


def _corruption(config: DictConfig) -> list[str]:
    corruption = config.get("corruption")
    return [f"{corruption.kind}_{corruption.strength}"] if corruption else []


def job_name(config: DictConfig) -> str:
    """The folder of a job in its study: what it is, for people, and its id; equal whenever and wherever it is run."""
    choices, overrides = config.hydra.runtime.choices, config.hydra.overrides.task
    plain = alone(config)
    try:
        found = identify(plain, choices)
        run = run_id(found.method, resolved(found.config))
    except Exception:  # whatever is wrong with the settings, the job will say it; its folder needs a name nevertheless
        return f"refused-{settings_hash([str(override) for override in overrides])}"
    stated = dict(str(override).lstrip("+~").split("=", 1) for override in overrides if "=" in str(override))
    told = {
        key: value
        for key, value in sorted(stated.items())
        if "." in key and key.split(".")[0] not in (*SHOWN, "callbacks", "hydra")
        if key.split(".")[-1] not in PLACES.get(key.split(".")[0], ())
        if key != "data.eval_batch_size" and "${" not in value
    }
    last = Counter(key.rsplit(".", 1)[-1] for key in told)
    # A key that two parts of the configuration have is named with its owner.
    short = {key: key.rsplit(".", 1)[-1] if last[key.rsplit(".", 1)[-1]] == 1 else key for key in told}
    swept = [f"{short[key]}_{value}" for key, value in told.items()]
    source = (plain.get("auxiliary") or {}).get("source")
    auxiliary = Path(str(source)).stem if source else choices.get("auxiliary")
    seed = found.config.seed or 0
    parts = [found.variant, *([str(auxiliary)] if auxiliary else []), *swept, f"seed{seed}"]
    name = "-".join(re.sub(r"[^\w.]", "_", part)[:40] for part in parts)  # nothing that Hydra's grammar reads
    return f"{file_name(name, 150)}-{run}"


def _acting(callbacks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, node in callbacks.items():
        target = str((node or {}).get(TARGET, ""))
        if not node or target.startswith(WATCHING) or target == CHECKPOINTS:
            continue
        if target.startswith(CACHE):
            if node.get("dtype", "fp32") != "fp32":
                yield name, {"dtype": node["dtype"]}
            continue
        yield name, node


def _depends_on_batches(model: Any) -> bool:
    """Whether the numbers of a detector change with the batch: by the released reading, or by code that is not ours."""
    if not isinstance(model, Mapping):
        return False
    readings = model.get("readings") or {}
    released = readings.get("distance_range") == "batch" or readings.get("latents") == "global"
    return released or not str(model[TARGET]).startswith("cops_lightning.")


def alone(config: DictConfig) -> DictConfig:
    """A copy without Hydra's own settings and without the run's folder, which is named after the rest."""
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    copy = OmegaConf.create({key: value for key, value in content.items() if key != "hydra"})
    assert isinstance(copy, DictConfig)
    OmegaConf.update(copy, "paths.output", "", force_add=True)
    return copy


def _common(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is equal in two configurations with the same keys."""
    both = {key: (value, other[key]) for key, value in one.items()}
    nested = {key: _common(*pair) for key, pair in both.items() if isinstance(pair[0], Mapping)}
    return {key: nested.get(key, pair[0]) for key, pair in both.items() if key in nested or pair[0] == pair[1]}
