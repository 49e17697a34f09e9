"""What all commands share: quiet consoles, log files, and errors that are one sentence."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.clip.weight_files import PACKAGED
from cops_lightning.core.types import MetricRow
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.report.tables import NOTHING, Run, summary_table
from cops_lightning.runs.record import RunRecord


def quiet_console() -> None:
    """Send the chatter of libraries to the log file: the console is for progress and results."""
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_utilities"):
        chatter = logging.getLogger(name)
        chatter.handlers.clear()
        chatter.propagate = True


def register_data(record: RunRecord, role: str, indices: Sequence[DatasetIndex]) -> None:
    """Record the datasets that were found and print what they are, so that a wrong folder is seen at once."""
    for index in indices:
        record.add_data(role, index)
        print(f"{role} {index.name}: {len(index.test)} images, {index.layout}, in {index.root}")
        for note in index.notes:
            print(f"  note: {note}")


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
    console = Console(highlight=False)
    console.print(summary_table(rows, described))
    console.print(f"Results, scores, heat maps and checkpoints: {folder}", soft_wrap=True)
