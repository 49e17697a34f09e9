"""Trackers that write into the run folder: metrics.csv, or event files for TensorBoard."""

import csv
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.tracker import Sink
from cops_lightning.report.tables import summary_markdown


class CsvSink(Sink):
    """metrics.csv: a line per step and per epoch, and a last one with the metrics of the evaluation."""

    title = "The CSV logger"

    def __init__(self, folder: Path) -> None:
        file = folder / "metrics.csv"
        before: list[dict[str, Any]] = []
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as opened:
                before = [{key: value for key, value in line.items() if value} for line in csv.DictReader(opened)]
        self._logger = CSVLogger(folder, name="", version="")
        with warnings.catch_warnings():
            # It warns that it deletes the lines of a run that was interrupted: they are written back.
            warnings.filterwarnings("ignore", message=".*exists and is not empty")
            writer = self._logger.experiment
        writer.metrics = before
        self._logger.save()
        self._last_step = 0

    def log_scalars(self, values: Mapping[str, float], step: int | None) -> None:
        """A line."""
        self._last_step = self._last_step if step is None else step
        self._logger.log_metrics(dict(values), self._last_step)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """A line with the metrics; results.csv beside it has them by category."""
        self.log_scalars(evaluation.scalars(), None)

    def close(self, failed: bool) -> None:
        """Write the last lines."""
        self._logger.finalize("failed" if failed else "success")


class TensorBoardSink(Sink):
    """Event files in tensorboard/: scalars, the table of results, contact sheets and heat maps, and `record`.

    `record` is the content of run.json: the configuration and what the run was made of.
    """

    title = "TensorBoard"

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self._logger = TensorBoardLogger(folder, name="tensorboard", version="")
        self._last_step = 0
        self._logger.experiment.add_text("run", f"```json\n{json.dumps(dict(record), indent=2)}\n```", 0)

    def log_scalars(self, values: Mapping[str, float], step: int | None) -> None:
        """A point of each curve."""
        self._last_step = self._last_step if step is None else step
        self._logger.log_metrics(dict(values), self._last_step)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Metrics as scalars and as a table, heat maps as the pictures that the run folder holds."""
        self.log_scalars(evaluation.scalars(), None)
        writer = self._logger.experiment
        writer.add_text("results", summary_markdown(evaluation.rows, "results"), self._last_step)
        for target in evaluation.examples:
            for path in (evaluation.drawn / f"{target}.png", *sorted((evaluation.drawn / target).glob("*.png"))):
                name = "contact_sheet" if path.parent == evaluation.drawn else f"heatmaps/{path.stem}"
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                writer.add_image(f"{target}/{name}", pixels, self._last_step, dataformats="HWC")

    def close(self, failed: bool) -> None:
        """Write the last events."""
        self._logger.finalize("failed" if failed else "success")
