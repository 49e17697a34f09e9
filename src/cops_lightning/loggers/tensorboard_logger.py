"""Event files for TensorBoard."""

import json
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger as LightningTensorBoardLogger
from PIL import Image

from cops_lightning.core.errors import ConfigError, not_installed
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.run_logger import RunLogger
from cops_lightning.report.tables import summary_markdown

FOLDER = "lightning_logs"  # Lightning's default


class TensorBoardLogger(RunLogger, LightningTensorBoardLogger):
    """Scalars, the table of results, contact sheets and heat maps, and what the run is made of.

    In a run that was started, the files lie in the folder tensorboard/ of `save_dir` unless `name` or `version` say
    otherwise, and TensorBoard shows a step that was logged by several attempts at the run once.

    Args:
        save_dir: The folder.
        name: A folder in it.
        version: A folder in that; by default the next free number.
        log_graph: Whether to draw the model, for which it needs an `example_input_array`.
        default_hp_metric: Whether to log hyper-parameters with a metric that stands for all.
        prefix: Put before every name.
        sub_dir: A folder below `version`.
        max_queue: How many events may wait to be written.
        flush_secs: How long they may wait.

    Raises ConfigError where tensorboard is not installed.
    """

    title = "TensorBoard"

    def __init__(
        self,
        save_dir: str | Path,
        name: str | None = FOLDER,
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | Path | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
    ) -> None:
        try:
            super().__init__(
                save_dir,
                name,
                version,
                log_graph,
                default_hp_metric,
                prefix,
                sub_dir,
                max_queue=max_queue,
                flush_secs=flush_secs,
            )
        except ModuleNotFoundError as error:
            raise ConfigError(not_installed("The TensorBoard logger", "cops_lightning[tensorboard]")) from error

    def _start(self) -> None:
        if self._name == FOLDER and self._version is None:
            self._name, self._version = "tensorboard", ""

    def _go_on_at(self, step: int) -> None:
        assert self.run is not None
        if self._experiment is not None:  # Lightning opens a file before the first number
            self._experiment.close()
        self._experiment, self._kwargs["purge_step"] = None, step
        content = self.run.provenance() | {"config": dict(self.run.config)}
        self.experiment.add_text("run", f"```json\n{json.dumps(content, indent=2, default=str)}\n```", 0)

    def _log_evaluation(self, evaluation: Evaluation) -> None:
        super()._log_evaluation(evaluation)
        writer = self.experiment
        writer.add_text("results", summary_markdown(evaluation.rows, "results"), self._last_step)
        for target, pictures in evaluation.pictures().items():
            for name, path in pictures.items():
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                writer.add_image(f"{target}/{name}", pixels, self._last_step, dataformats="HWC")

    def _finish(self, error: BaseException | None) -> None:
        if self._last_step is None:
            self._go_on_at(0)

    def _close(self, error: BaseException | None) -> None:
        if self._experiment is not None:
            self._experiment.close()
        self._experiment = None
