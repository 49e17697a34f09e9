"""Rates of any training, and similarities where CoPS is trained."""

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from cops_lightning.callbacks.similarity import PromptSimilarity
from cops_lightning.callbacks.training_curves import TrainingCurves
from cops_lightning.models.anomaly_map import Prototypes

SIMILARITIES = {f"similarity/{name}" for name in ("prompts", "context_tokens", "state_tokens", "class_tokens")}
SIMILARITIES |= {f"similarity/prototypes_{name}" for name in ("normal", "anomalous", "across")}


class Prompts(LightningModule):
    """Trains the prompts of a detector to be alike, or the weights of another module."""

    def __init__(self, model: nn.Module, fail: bool = False) -> None:
        super().__init__()
        self.model, self.fail = model, fail

    def training_step(self, batch, batch_idx):
        if self.fail:
            raise ZeroDivisionError
        if isinstance(self.model, nn.Linear):
            return self.model(batch).mean()
        width = self.model.backbone.width
        same = torch.ones(len(batch), 6, width)
        return self.model.text_features(Prototypes(same, same), torch.ones(len(batch), 1, width)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=0.25)


def fit(module: LightningModule) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[TrainingCurves(), PromptSimilarity()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, DataLoader(torch.ones(6, 3), batch_size=4))
    return trainer


# Lightning's own: of torch's trees, of loaders without workers, and of the frozen backbone in eval mode.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning"),
]


def test_any_training_has_rates_and_one_of_cops_similarities_too(tiny_model):
    metrics = fit(Prompts(tiny_model)).callback_metrics
    assert metrics["rates/images_per_second"] * metrics["rates/epoch_seconds"] == pytest.approx(6, rel=1e-4)
    assert metrics["rates/learning_rate"] == 0.25
    assert metrics.keys() >= SIMILARITIES
    # All prototypes are one vector, whatever its state.
    for name in ("normal", "anomalous", "across"):
        assert metrics[f"similarity/prototypes_{name}"] == pytest.approx(1)


def test_another_model_has_rates_only():
    metrics = fit(Prompts(nn.Linear(3, 1))).callback_metrics
    assert {name.split("/")[0] for name in metrics} == {"rates"}


def test_the_forward_pass_is_left_alone_after_training_however_it_ended(tiny_model):
    hooks = sum(len(module._forward_hooks) for module in tiny_model.modules())
    with pytest.raises(ZeroDivisionError):
        fit(Prompts(tiny_model, fail=True))
    assert sum(len(module._forward_hooks) for module in tiny_model.modules()) == hooks
