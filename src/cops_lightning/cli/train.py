"""`cops-train`: learn prompts on an auxiliary dataset and evaluate them on datasets they never saw."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from cops_lightning.cli.console import launch, plain, register_data, show_results
from cops_lightning.compose import (
    build_augmentation,
    build_caching,
    build_model,
    build_trainer,
    find_dataset,
    find_targets,
    tracking,
)
from cops_lightning.config import conf_folder, register
from cops_lightning.data import CopsDataModule
from cops_lightning.engine.checkpoint import METHOD, Stamp
from cops_lightning.engine.evaluation import HeatMaps, evaluate
from cops_lightning.engine.protocol import require_unseen, trained_categories
from cops_lightning.engine.provenance import RunRecord
from cops_lightning.engine.task import CopsTask
from cops_lightning.report.tables import Run

register()


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
def main(config: DictConfig) -> None:
    """Entry point of the console command."""
    launch(config, train)


def train(config: DictConfig, folder: Path, record: RunRecord) -> None:
    """One run: find the data, build the model, train, evaluate, write everything into `folder`."""
    auxiliary = find_dataset(config.auxiliary.source, config.data)
    targets = find_targets(config.targets, auxiliary.name, config.data)
    trained_on = trained_categories(auxiliary)
    require_unseen(targets, trained_on, auxiliary, config.evaluate_seen)
    register_data(record, "auxiliary", [auxiliary])
    register_data(record, "target", targets)

    if not auxiliary.has_masks:
        print(f"{auxiliary.name} has no masks: the losses patch, gather and scatter are not available.")

    model = build_model(config)
    backbone = model.backbone.record
    record.add_backbone(backbone)
    settings = {name: plain(config[name]) for name in METHOD}
    stamp = Stamp(
        backbone.name, backbone.fingerprint, {**settings, "variant": config.variant, "seed": config.seed}, trained_on
    )
    task = CopsTask(model, stamp, config.optim.lr, tuple(config.optim.betas))
    data = CopsDataModule(
        auxiliary,
        targets,
        model.image_size,
        config.seed,
        config.data.batch_size,
        config.data.eval_batch_size,
        config.data.workers,
        config.data.limit,
        config.data.mask_threshold.value,
        build_augmentation(config.data),
    )
    run = Run(record.run_id, config.study, config.variant, config.seed, auxiliary.name)
    options = HeatMaps(config.report.heatmaps, (config.report.scale_min, config.report.scale_max))
    caching = build_caching(config.cache, config.data)
    with tracking(config.logger, folder, run, plain(config)) as logger:
        trainer = build_trainer(config.trainer, folder, logger, config.auxiliary.epochs, caching)
        trainer.fit(task, data)
        model.save_released(folder / "checkpoints" / "released.pth")
        rows = evaluate(trainer, task, data, run, folder, options)
        record.add_encoder(task.count)
    show_results(rows, config.title, backbone, run, folder)


if __name__ == "__main__":
    main()
