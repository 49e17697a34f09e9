"""The progress bar of training, evaluation and metrics, and its lines in a log."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from cops_lightning.core.measured import MetricRow
from cops_lightning.core.progress import counted_progress, log_progress
from cops_lightning.metrics.suite import MetricSuite
from cops_lightning.models.module import CopsModule

STEPS = 10


class ProgressBar(RichProgressBar):
    """Lightning's bar with epochs counted from 1, and a bar for the metrics of every target.

    Lightning's would wait for the device at every step to show the loss; this one does at every tenth, and at the
    first of every epoch.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"leave": False, **options})
        self._shown: dict[str, Any] = {}
        self._of = -STEPS

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show a bar for metrics too."""
        super().setup(trainer, pl_module, stage)
        if trainer.is_global_zero and isinstance(pl_module, CopsModule):
            pl_module.show_progress = rows_with_a_bar

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The loss of a step that is at most nine steps old."""
        step = trainer.global_step
        if not self._shown or step - self._of >= STEPS or trainer.is_last_batch:
            self._shown, self._of = dict(super().get_metrics(trainer, pl_module)), step
        return self._shown

    def refresh(self, hard: bool = False) -> None:
        """Called by Lightning after every batch."""
        super().refresh(hard)
        if self.progress is not None:
            log_progress(self.progress)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the loss of the epoch before."""
        self._shown = {}
        super().on_train_epoch_start(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        text = f"Epoch {current_epoch + 1}" + ("" if last is None or last < 0 else f"/{last}")
        return f"{text:{len(self.validation_description)}}"  # as long as the other bar's, so that neither flickers


def rows_with_a_bar(suite: MetricSuite) -> list[MetricRow]:
    """The metrics of a target, with a bar while they are computed."""
    with counted_progress() as bar:
        step = bar.add_task(f"metrics of {suite.target}", total=None)
        return suite.rows(lambda done, total: bar.update(step, completed=done, total=total))
