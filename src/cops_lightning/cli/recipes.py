"""What `cops-train` and `cops-eval` do, once the configuration is checked: what each finds, and the work of both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import LightningDataModule

from cops_lightning.callbacks.run import RunCallback
from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.clip.weight_files import PACKAGED, weights_fingerprint
from cops_lightning.config.check import TARGET
from cops_lightning.config.options import default_nodes
from cops_lightning.core.errors import ConfigError, listed
from cops_lightning.core.measured import MetricRow
from cops_lightning.core.reporting import console, say
from cops_lightning.data.catalog import find_spec
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.data.protocol import categories_of, images_of, require_unseen
from cops_lightning.loggers import RunInfo, tracked
from cops_lightning.models.checkpoint import Checkpoint, RunSaid, Saved, read_checkpoint
from cops_lightning.models.detector import TrainableDetector
from cops_lightning.models.module import CopsModule
from cops_lightning.report.tables import NOTHING, Run, summary_table
from cops_lightning.runs.build import (
    build_auxiliary,
    build_callbacks,
    build_data,
    build_loggers,
    build_module,
    build_targets,
    build_trainer,
)
from cops_lightning.runs.identity import data_content, learns
from cops_lightning.runs.jobs import Job, Read, Ready
from cops_lightning.runs.record import RunRecord


def train(job: Job) -> Ready:
    """A run of cops-train: its data found, its model named. Raises CopsError where that cannot be, or must not."""
    config = job.config
    auxiliary = build_auxiliary(config) if learns(job.settings["model"]) else None
    data = _data(job, auxiliary)
    index = data.auxiliary if isinstance(data, AnomalyDataModule) else None
    if index is not None:
        _require_unseen(data, categories_of(index.test), images_of(index.test))

    def module() -> CopsModule:
        module = build_module(config)
        module.saved = replace(module.saved, run=_identity(job))
        return module

    name = NOTHING if index is None else index.name
    weights = weights_fingerprint(job.settings["backbone"])
    return Ready(module, data, _read(data), name, weights, fit=auxiliary is not None)


def score(job: Job) -> Ready:
    """An evaluation of a checkpoint: that read, the data found. Raises CopsError where that cannot be, or must not."""
    checkpoint = read_checkpoint(Path(job.settings["checkpoint"]))
    saved = _saved(job, checkpoint)
    auxiliary = saved.trained_on[0].partition("/")[0] if saved.trained_on else NOTHING
    data = _data(job, None, auxiliary)
    _require_unseen(data, saved.trained_on, saved.trained_images)
    nodes = {"model": saved.own_model, "backbone": saved.own_backbone}
    model, backbone = (job.settings.get(key) or own() for key, own in nodes.items())
    if not learns(model):
        raise ConfigError("This model has no checkpoint, as it learns nothing; run cops-train model=NAME instead.")
    if "seed" in model:
        model = {**model, "seed": job.settings["seed"]}

    def module() -> CopsModule:
        module = CopsModule(model, backbone, metrics=job.settings["metrics"], saved=saved.as_plain())
        assert isinstance(module.model, TrainableDetector)
        checkpoint.fill(module.model)
        return module

    return Ready(module, data, _read(data), auxiliary, weights_fingerprint(backbone), fit=False)


def work(job: Job, record: RunRecord, ready: Ready) -> None:
    """Train if there is anything to train on, test, and say what came out; everything is written into the folder."""
    record.add_auxiliary(ready.auxiliary)
    noted: dict[str, list[str]] = {}  # datasets of one layout have the same to say
    for role, index, content in ready.read:
        record.add_data(role, index, content)
        say(f"{role} {index.name}: {len(index.test)} images, {index.layout}, in {index.root}")
        for note in index.notes:
            noted.setdefault(note, []).append(index.name)
        if role == "auxiliary" and not index.has_masks:
            say(f"{index.name} has no masks: the losses patch, gather and scatter are not available.")
    for note, names in noted.items():
        say(f"  note on {listed(list(dict.fromkeys(names)), 4)}: {note}")
    module, data = ready.module(), ready.data
    if not module.trains:
        say(f"{job.identity.variant} learns nothing: there is no training, and the seed changes no score.")
    record.add_backbone(module.model.backbone.record)
    info = RunInfo.of(job.folder, record.content, HydraConfig.get().mode is RunMode.MULTIRUN)
    callbacks = build_callbacks(job.config)
    for callback in callbacks:
        if isinstance(callback, RunCallback):
            callback.start(info)
    with tracked(build_loggers(job.config), info) as loggers:
        trainer = build_trainer(job.config, callbacks, loggers, ready.fit)
        if ready.fit:
            trainer.fit(module, data, ckpt_path=record.checkpoint)
            if trainer.is_global_zero and isinstance(module.model, TrainableDetector):
                module.model.save_released(job.folder / "checkpoints" / "released.pth")
        trainer.test(module, datamodule=data, verbose=False)
        record.add_encoder(module.count_of_all())
    show_results(module.rows, job.config.title, module.model.backbone.record, info.identity, job.folder)


def _read(data: LightningDataModule) -> list[Read]:
    """What a run reads of its data; unknown for a data module that is not of this library."""
    if not isinstance(data, AnomalyDataModule):
        return []
    found = [("auxiliary", data.auxiliary), *(("target", target) for target in data.targets)]
    return [Read(role, index, data_content(index)) for role, index in found if index is not None]


def _data(job: Job, auxiliary: AnomalyDataModule | None, trained_on: str = NOTHING) -> LightningDataModule:
    """The data module, its datasets found; groups of targets leave out what is, or was, trained on."""
    if auxiliary is not None:
        auxiliary.locate()
        trained_on = auxiliary.auxiliary.name if auxiliary.auxiliary else trained_on
    data = build_data(job.config, auxiliary, build_targets(job.config, trained_on))
    if isinstance(data, AnomalyDataModule):
        data.find()
    return data


def _require_unseen(data: LightningDataModule, categories: Sequence[str], images: Sequence[str]) -> None:
    """Before hours of training rather than after them."""
    if isinstance(data, AnomalyDataModule):
        targets = [(target.name, target.test) for target in data.targets]
        require_unseen(targets, categories, images, data.evaluate_seen)


def _identity(job: Job) -> RunSaid:
    found = job.identity
    return {"seed": job.settings["seed"], "variant": found.variant, "method_settings": found.method_settings}


def _saved(job: Job, checkpoint: Checkpoint) -> Saved:
    """What the checkpoint says of itself; for the released format, what the command line says."""
    if checkpoint.saved is not None:
        return checkpoint.saved
    missing = [key for key in ("auxiliary", "backbone") if not job.settings.get(key)]
    if missing:
        raise ConfigError(
            f"{checkpoint.path} is in the released format, which does not say its {' and '.join(missing)}. Add "
            "auxiliary=visa or auxiliary=mvtec, whichever it was trained on, and backbone=vit_l14_336."
        )
    auxiliary = build_auxiliary(job.config)
    spec = find_spec(getattr(auxiliary, "catalog_name", ""))
    # VisA brings no preset, so that the model has its own.
    model = default_nodes(f"model={checkpoint.method}", "auxiliary=visa")["model"]
    preset = job.settings["preset"]
    if preset and preset[TARGET] == model["preset"][TARGET]:  # that of an auxiliary dataset is CoPS's
        model = {**model, "preset": preset}
    return Saved(trained_on=tuple(f"{spec.name}/{category}" for category in spec.categories), model_node=model)


def show_results(
    rows: Sequence[MetricRow], title: str | None, backbone: BackboneRecord, run: Run, folder: Path
) -> None:
    """The closing page of a run: one table, and where the files are."""
    learnt = "not trained" if run.auxiliary == NOTHING else f"trained on {run.auxiliary}"
    described = title or f"{run.variant}, {learnt}, backbone {backbone.name}, seed {run.seed}"
    if backbone.is_random:
        described += " (RANDOM backbone weights: the numbers mean nothing)"
    elif backbone.name.startswith(PACKAGED):
        described += " (DEMONSTRATION backbone: no claim about CoPS with a real CLIP)"
    shown = console()
    shown.print(summary_table(rows, described))
    shown.print(f"Results, scores, heat maps and checkpoints: {folder}", soft_wrap=True)
