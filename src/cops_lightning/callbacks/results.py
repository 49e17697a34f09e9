"""From a tested module to files of numbers in the run folder."""

import csv
from collections.abc import Iterable
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cops_lightning.callbacks.run import RunCallback
from cops_lightning.core.files import writing
from cops_lightning.models.module import CopsModule, ScoredImage
from cops_lightning.report.tables import ResultRow, write_results

SCORE_COLUMNS = ("target", "category", "defect", "image", "label", "score")


class Results(RunCallback, Callback):
    """Writes results.csv, a line per metric, and scores.csv, a line per image, once all targets are tested.

    Args:
        folder: where they go; default: the trainer's root folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files, each whole or not at all."""
        assert isinstance(pl_module, CopsModule)
        images = pl_module.images_of_all()  # of all processes, so all must ask
        if not trainer.is_global_zero:
            return
        folder, run = self.folder_of(trainer), self.run_of(pl_module)
        write_scores(folder / "scores.csv", (image for target in images for image in target))
        write_results(folder / "results.csv", [ResultRow(run, row) for row in pl_module.rows])


def write_scores(path: Path, images: Iterable[ScoredImage]) -> None:
    """One line per image: where it is from, its label (0 normal, 1 anomalous) and its anomaly score."""
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SCORE_COLUMNS)
        for image in images:
            s = image.sample
            writer.writerow((s.dataset, s.category, s.defect, s.key, s.label, repr(image.score)))
