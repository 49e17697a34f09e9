"""metrics.csv: the curves of a run as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from cops_lightning.core.files import writing
from cops_lightning.loggers.run_logger import RunLogger

FOLDER = "lightning_logs"  # Lightning's default


class CSVLogger(RunLogger, LightningCSVLogger):  # type: ignore[misc]  # theirs takes fewer arguments
    """A line per step and per epoch, and the metrics of the evaluation at the last step.

    In a run that was started, metrics.csv lies in `save_dir` itself unless `name` or `version` say otherwise, and goes
    on where an earlier attempt at the run left it.

    Args:
        save_dir: The folder.
        name: A folder in it.
        version: A folder in that; by default the next free number.
        prefix: Put before every name.
        flush_logs_every_n_steps: Lines that a killed run may lose.
    """

    title = "The CSV logger"

    def __init__(
        self,
        save_dir: str | Path,
        name: str | None = FOLDER,
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 1,
    ) -> None:
        super().__init__(save_dir, name, version, prefix, flush_logs_every_n_steps)

    def _start(self) -> None:
        if self._name == FOLDER and self._version is None:
            self._name = self._version = ""
        self._experiment = _LastingWriter(self.log_dir)

    def _go_on_at(self, step: int) -> None:
        self.experiment.go_on_at(step)

    def _finish(self, error: BaseException | None) -> None:
        self.save()

    def _close(self, error: BaseException | None) -> None:
        self._experiment = None


class _LastingWriter(ExperimentWriter):
    """Keeps the lines of an earlier attempt at the run, which Lightning's writer deletes."""

    def go_on_at(self, step: int) -> None:
        """Keep the lines before `step`; one that a killed run left incomplete is none of them."""
        file = Path(self.metrics_file_path)
        if not file.is_file():
            return
        with file.open(newline="", encoding="utf-8") as opened:
            lines = [{key: value for key, value in line.items() if key and value} for line in csv.DictReader(opened)]
        kept = [line for line in lines if line.get("step", "").isdigit() and int(line["step"]) < step]
        self.metrics_keys = sorted({key for line in kept for key in line})
        if kept:
            _write(file, self.metrics_keys, kept)
        else:
            file.unlink()

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the earlier file here."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        file = Path(self.metrics_file_path)
        with file.open(newline="", encoding="utf-8") as opened:
            lines = list(csv.DictReader(opened))
        _write(file, fieldnames, lines)


def _write(file: Path, columns: Sequence[str], lines: Sequence[dict[str, Any]]) -> None:
    with writing(file) as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(lines)
