"""`cops-train`: learn prompts on an auxiliary dataset and evaluate them on datasets they never saw."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from cops_lightning.callbacks.diagnostics import diagnose
from cops_lightning.callbacks.results import HeatMaps, evaluate
from cops_lightning.cli.console import plain, register_data, show_results
from cops_lightning.compose import (
    UNTRAINED,
    build_caching,
    build_data,
    build_model,
    build_trainer,
    find_dataset,
    find_targets,
    tracking,
)
from cops_lightning.config import conf_folder, register
from cops_lightning.data.protocol import require_unseen, trained_categories
from cops_lightning.models.checkpoint import METHOD, Stamp
from cops_lightning.models.cops import CoPS
from cops_lightning.models.detector import FeatureDetector
from cops_lightning.models.module import CopsTask, ScoringTask
from cops_lightning.report.tables import NOTHING, Run
from cops_lightning.runs.jobs import launch, register_resolvers
from cops_lightning.runs.record import RunRecord

register()
register_resolvers()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
def main(config: DictConfig) -> float | None:
    """Entry point of the console command; returns what a sweeper optimises, if that is configured."""
    return launch(config, train)


def train(config: DictConfig, folder: Path, record: RunRecord) -> None:
    """One run: find the data, build the model, train it if it learns, evaluate, write everything into `folder`."""
    auxiliary = None if config.model.name in UNTRAINED else find_dataset(config.auxiliary.source, config.data)
    source = NOTHING if auxiliary is None else auxiliary.name
    targets = find_targets(config.targets, source, config.data)
    trained_on = () if auxiliary is None else trained_categories(auxiliary)
    require_unseen(targets, trained_on, auxiliary, config.evaluate_seen)
    register_data(record, "auxiliary", [] if auxiliary is None else [auxiliary])
    register_data(record, "target", targets)

    if auxiliary is None:
        print(f"{config.model.name} learns nothing: there is no training, and the seed changes no score.")
    elif not auxiliary.has_masks:
        print(f"{auxiliary.name} has no masks: the losses patch, gather and scatter are not available.")

    model = build_model(config)
    backbone = model.backbone.record
    record.add_backbone(backbone)
    task = ScoringTask(model)
    if isinstance(model, CoPS):
        settings = {**{name: plain(config[name]) for name in METHOD}, "variant": config.variant, "seed": config.seed}
        stamp = Stamp(backbone.name, backbone.fingerprint, settings, trained_on)
        task = CopsTask(model, stamp, config.optim.lr, tuple(config.optim.betas))
    data = build_data(config.data, config.corruption, config.seed, auxiliary, targets, model.image_size)
    run = Run(record.run_id, config.study, config.variant, config.seed, source)
    options = HeatMaps(config.report.heatmaps, (config.report.scale_min, config.report.scale_max))
    caching = build_caching(config.cache, config.data) if isinstance(model, FeatureDetector) else []
    with tracking(config.logger, folder, run, record.content) as tracker:
        epochs = config.auxiliary.epochs if auxiliary else None
        masked = auxiliary is None or auxiliary.has_masks
        trainer = build_trainer(config.trainer, folder, tracker, epochs, caching, masked)
        if isinstance(task, CopsTask):
            trainer.fit(task, data, ckpt_path=record.checkpoint)
            if trainer.is_global_zero:
                task.model.save_released(folder / "checkpoints" / "released.pth")
        rows = evaluate(trainer, task, data, run, folder, options)
        record.add_encoder(task.count_of_all())
        if config.report.diagnostics and isinstance(model, CoPS):
            diagnose(trainer, model, data, run, folder)
    show_results(rows, config.title, backbone, run, folder)


if __name__ == "__main__":
    main()
