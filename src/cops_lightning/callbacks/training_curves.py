"""What is measured while a detector trains, beside its losses."""

import time
from collections.abc import Sized
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class TrainingCurves(Callback):
    """Logs, per epoch: images per second, how long the epoch took, and the learning rate at its start."""

    def __init__(self) -> None:
        self._began, self._images, self._rate = 0.0, 0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; the rate is read here, since a scheduler has changed it by the end of the epoch."""
        self._began, self._images = time.monotonic(), 0
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Sized, batch_idx: int
    ) -> None:
        """Count images."""
        self._images += len(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's rates."""
        seconds = time.monotonic() - self._began
        values = {
            "rates/images_per_second": self._images * trainer.world_size / seconds,
            "rates/epoch_seconds": seconds,
            "rates/learning_rate": self._rate,
        }
        pl_module.log_dict(values)
