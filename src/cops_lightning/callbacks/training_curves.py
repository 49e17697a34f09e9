"""What is measured while CoPS trains, beside its losses."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from cops_lightning.callbacks.similarity import prompt_similarity, prototype_similarities, token_similarities
from cops_lightning.core.types import Batch
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.prompt_learner import PromptLearner


class TrainingCurves(Callback):
    """Logs, per epoch: images per second, the learning rate, and how similar prompts and prototypes are.

    Similarities are those of the epoch's last batch, whose prototypes are overheard: nothing is encoded for them but
    two prompts per image.
    """

    def __init__(self) -> None:
        self._began, self._images = 0.0, 0
        self._overheard: tuple[Tensor | None, Tensor | None] | None = None
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to overhear what the prompts are filled with."""
        self._hook = _model(pl_module).prompt_learner.register_forward_hook(self._overhear)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count images."""
        self._images += len(batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's rates and similarities."""
        seconds = time.monotonic() - self._began
        values = {
            "rates/images_per_second": self._images * trainer.world_size / seconds,
            "rates/epoch_seconds": seconds,
            "rates/learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
        }
        model = _model(pl_module)
        values |= token_similarities(model.prompt_learner)
        if self._overheard is not None:
            prototypes, biases = self._overheard
            values |= prompt_similarity(model, prototypes, biases)
            if prototypes is not None:
                values |= prototype_similarities(prototypes)
        pl_module.log_dict(values)
        self._overheard = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop overhearing, however training ended."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _overhear(self, _learner: PromptLearner, filled_with: tuple[Any, ...], _prompts: Any) -> None:
        prototypes, biases, _ = filled_with
        self._overheard = (
            None if prototypes is None else prototypes.detach(),
            None if biases is None else biases.detach(),
        )


def _model(pl_module: LightningModule) -> CoPS:
    model = pl_module.model
    assert isinstance(model, CoPS), "only CoPS trains"
    return model
