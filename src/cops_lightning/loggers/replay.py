"""A finished run, sent to a logger as if it were running."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from cops_lightning.core.errors import CopsError, told
from cops_lightning.core.files import RESULTS, results_changed
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.run_info import RunInfo
from cops_lightning.loggers.run_logger import RunLogger, begin, end
from cops_lightning.report.tables import read_results


def replay(folder: Path, record: Mapping[str, Any], logger: Logger) -> bool:
    """Send what a run folder holds: the curves of metrics.csv, the metrics of results.csv, heat maps, its end.

    `record` is the content of run.json. Returns whether it was sent: one that fails does so with a warning. Raises
    CopsError where a file cannot be read.
    """
    if results_changed(folder, record):
        raise CopsError(f"{folder / RESULTS} is not the one that the run wrote. Restore it, or do the run again.")
    run = RunInfo.of(folder, record, one_of_many=True)
    curves, results = list(_curves(folder / "metrics.csv")), folder / RESULTS
    rows = [row.measured for row in read_results(results)] if results.is_file() else None
    if not begin([logger], run):
        return False
    step = 0
    for step, values in curves:
        logger.log_metrics(values, step)
    if rows is not None:
        evaluation = Evaluation(rows, [], {}, (0.0, 1.0), folder / "heatmaps")
        if isinstance(logger, RunLogger):
            logger.log_evaluation(evaluation)
        else:
            logger.log_metrics(evaluation.scalars(), step)
    done = record["status"] == "done"
    end([logger], run, None if done else CopsError(record.get("error") or f"The run is {record['status']}."))
    return not logger.failed  # type: ignore[attr-defined]  # which `begin` gave it


def _curves(file: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and values of each line; none where the run left no curves."""
    if file.is_file():
        way_out = "Expected the metrics.csv of a run; remove it to send the rest."
        with told(CopsError, f"{file} cannot be read", way_out), file.open(newline="", encoding="utf-8") as opened:
            for line in csv.DictReader(opened):
                step = line.pop("step", None)
                values = {name: float(cell) for name, cell in line.items() if cell}
                if step and values:
                    yield int(step), values
