"""`cops-eval`: score targets with a trained checkpoint, without training."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from cops_lightning.callbacks.results import HeatMaps, evaluate
from cops_lightning.cli.console import plain, register_data, show_results
from cops_lightning.compose import build_caching, build_data, build_model, build_trainer, find_targets, tracking
from cops_lightning.config import TrainConfig, conf_folder, register
from cops_lightning.core.errors import ConfigError
from cops_lightning.data import find_spec
from cops_lightning.data.protocol import require_unseen
from cops_lightning.models.checkpoint import METHOD, Checkpoint, Stamp, read_checkpoint
from cops_lightning.models.cops import CoPS
from cops_lightning.models.module import CopsTask
from cops_lightning.report.tables import Run
from cops_lightning.runs.jobs import launch, register_resolvers
from cops_lightning.runs.record import RunRecord

register()
register_resolvers()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="eval")
def main(config: DictConfig) -> float | None:
    """Entry point of the console command; returns what a sweeper optimises, if that is configured."""
    return launch(config, score)


def score(config: DictConfig, folder: Path, record: RunRecord) -> None:
    """One evaluation: load the checkpoint over its backbone, score the targets, write everything into `folder`."""
    checkpoint = read_checkpoint(Path(config.checkpoint))
    method = _method(config, checkpoint)
    trained_on = checkpoint.stamp.trained_on if checkpoint.stamp else _published_categories(method.auxiliary.source)
    auxiliary = trained_on[0].partition("/")[0]
    targets = find_targets(config.targets, auxiliary, config.data)
    require_unseen(targets, trained_on, None, config.evaluate_seen)
    register_data(record, "target", targets)

    model = build_model(method)
    if not isinstance(model, CoPS):
        raise ConfigError(f"{method.model.name} has no checkpoint; run cops-train model={method.model.name} instead.")
    backbone = model.backbone.record
    record.add_backbone(backbone)
    if checkpoint.stamp:
        checkpoint.stamp.require_backbone(backbone, checkpoint.path)
    model.load_released(checkpoint.weights)
    settings = {name: plain(method[name]) for name in METHOD}
    stamp = checkpoint.stamp or Stamp(backbone.name, backbone.fingerprint, settings, trained_on)
    task = CopsTask(model, stamp)
    data = build_data(config.data, config.corruption, config.seed, None, targets, model.image_size)
    run = Run(record.run_id, config.study, config.variant or method.variant, config.seed, auxiliary)
    options = HeatMaps(config.report.heatmaps, (config.report.scale_min, config.report.scale_max))
    with tracking(config.logger, folder, run, record.content) as tracker:
        trainer = build_trainer(config.trainer, folder, tracker, more=build_caching(config.cache, config.data))
        rows = evaluate(trainer, task, data, run, folder, options)
        record.add_encoder(task.count_of_all())
    show_results(rows, config.title, backbone, run, folder)


def _method(config: DictConfig, checkpoint: Checkpoint) -> DictConfig:
    """The groups METHOD: as given on the command line, else as the checkpoint says."""
    stored = dict(checkpoint.stamp.settings) if checkpoint.stamp else {}
    given = {name: plain(config[name]) for name in METHOD if config[name] is not None}
    missing = [name for name in ("auxiliary", "backbone") if name not in stored and name not in given]
    if missing:
        raise ConfigError(
            f"{checkpoint.path} is in the released format, which does not say its {' and '.join(missing)}. Add "
            "auxiliary=visa or auxiliary=mvtec, whichever it was trained on, and backbone=vit_l14_336."
        )
    chosen = {**stored, **given, "seed": config.seed}
    method = OmegaConf.merge(OmegaConf.structured(TrainConfig), chosen)
    assert isinstance(method, DictConfig)
    return method


def _published_categories(source: str) -> tuple[str, ...]:
    """Every "dataset/category" of a catalogue dataset."""
    spec = find_spec(source)
    return tuple(f"{spec.name}/{category}" for category in spec.categories)


if __name__ == "__main__":
    main()
