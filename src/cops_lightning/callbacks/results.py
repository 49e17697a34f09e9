"""From a task to numbers, scores and pictures in the run folder."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from cops_lightning.core.files import replacing
from cops_lightning.core.progress import counted_progress
from cops_lightning.core.types import MetricRow
from cops_lightning.data import AnomalyDataset, CopsDataModule, read_image
from cops_lightning.loggers import Evaluation, Tracker
from cops_lightning.metrics.suite import MetricSuite
from cops_lightning.models.module import ScoredImage, ScoringTask
from cops_lightning.report.figures import Example, choose_examples, save_contact_sheet, save_heat_map
from cops_lightning.report.tables import ResultRow, Run, write_results

# Longest side of the image in a heat map, in pixels: as much as a figure shows.
SHOWN_SIDE = 512
SCORE_COLUMNS = ("target", "category", "defect", "image", "label", "score")


@dataclass(frozen=True)
class HeatMaps:
    """How many heat maps to draw per target, and the colour scale that all share."""

    count: int = 12
    scale: tuple[float, float] = (0.0, 1.0)


def evaluate(
    trainer: Trainer, task: ScoringTask, data: CopsDataModule, run: Run, folder: Path, heatmaps: HeatMaps
) -> list[MetricRow]:
    """Score every target, then write results.csv, scores.csv and heatmaps/ into the run folder.

    Raises DatasetError at the first image or mask that cannot be read; then no results are written.
    """
    task.expect_targets([target.name for target in data.targets])
    trainer.test(task, datamodule=data, verbose=False)
    shown = trainer.progress_bar_callback is not None
    rows = [row for suite in task.suites for row in _metrics(suite, shown)]
    images = task.images_of_all()
    # Curves are of the images of all processes, so all must ask for them, whichever of them tracks.
    shows_curves = isinstance(trainer.logger, Tracker) and trainer.logger.shows_curves
    curves = [curve for suite in task.suites for curve in suite.curves()] if shows_curves else []
    if not trainer.is_global_zero:
        return rows
    write_scores(folder / "scores.csv", (image for target in images for image in target))
    drawn = {
        target.name: write_heatmaps(folder / "heatmaps" / target.name, data.dataset(target), scored, task, heatmaps)
        for target, scored in zip(data.targets, images, strict=True)
    }
    write_results(folder / "results.csv", [ResultRow(run, row) for row in rows])
    if isinstance(trainer.logger, Tracker):
        drawn = {target: examples for target, examples in drawn.items() if examples}
        trainer.logger.log_evaluation(Evaluation(rows, curves, drawn, heatmaps.scale, folder / "heatmaps"))
    return rows


def _metrics(suite: MetricSuite, shown: bool) -> list[MetricRow]:
    with counted_progress(shown) as bar:
        step = bar.add_task(f"metrics of {suite.target}", total=None)
        return suite.compute(lambda done, total: bar.update(step, completed=done, total=total))


def write_scores(path: Path, images: Iterable[ScoredImage]) -> None:
    """One line per image: where it is from, its label (0 normal, 1 anomalous) and its anomaly score."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SCORE_COLUMNS)
        for image in images:
            s = image.sample
            writer.writerow((s.dataset, s.category, s.defect, s.key, int(s.anomalous), repr(image.score)))


def write_heatmaps(
    folder: Path, dataset: AnomalyDataset, images: Sequence[ScoredImage], task: ScoringTask, options: HeatMaps
) -> list[Example]:
    """A third of the heat maps for normal images, the rest for anomalous ones, and beside the folder a sheet of all.

    `images` are those of `dataset`, in its order. Returns what was drawn.
    """
    if options.count == 0:
        return []
    normal = options.count // 3
    chosen = choose_examples([image.sample.anomalous for image in images], normal, options.count - normal)
    # The ground truth that is shown is the one that was scored: the same threshold and size.
    examples = [_example(images[i], dataset[i].mask, task) for i in chosen]
    low, high = options.scale
    for example in examples:
        save_heat_map(folder / f"{example.name.replace('/', '_')}.png", example, low, high)
    save_contact_sheet(folder.with_name(f"{folder.name}.png"), examples, folder.name, low, high)
    return examples


def _example(image: ScoredImage, mask: Tensor | None, task: ScoringTask) -> Example:
    sample = image.sample
    shown = read_image(sample.image)
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    with torch.no_grad():
        pixels = task.model.expand(image.patches[None])[0].numpy()
    name = sample.key.removeprefix(f"{sample.dataset}/{sample.category}/").rsplit(".", 1)[0]
    truth = None if mask is None else mask.bool().numpy()
    return Example(name, np.asarray(shown), truth, pixels, image.score, sample.anomalous)
