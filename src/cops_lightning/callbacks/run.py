"""What callbacks that write into a run folder share."""

from pathlib import Path

from lightning import Trainer

from cops_lightning.loggers.run_info import RunInfo
from cops_lightning.report.tables import NOTHING, Run


class RunCallback:
    """A callback that knows which run it serves; outside our commands it is one without names.

    `folder` is set by its constructor: where it writes, None for the trainer's root folder.
    """

    folder: str | Path | None = None
    run: Run = Run("", "", "default", "model", 0, NOTHING)

    def start(self, run: RunInfo) -> None:
        """The run that begins."""
        self.run = Run(
            run_id=run.run_id,
            method=run.method,
            study=run.study,
            variant=run.variant,
            seed=run.seed,
            auxiliary=run.auxiliary,
        )

    def folder_of(self, trainer: Trainer) -> Path:
        """Where to write."""
        return Path(trainer.default_root_dir if self.folder is None else self.folder)
