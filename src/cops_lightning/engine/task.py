"""The LightningModules: scores of any detector, and steps, optimiser and checkpoints around `CoPS`; no mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.seeding import named_generator
from cops_lightning.core.types import Batch, Features, Noise, Sample
from cops_lightning.core.weights import mismatches
from cops_lightning.detector import Detector, FeatureDetector
from cops_lightning.engine.checkpoint import STAMP, Stamp
from cops_lightning.metrics.suite import MetricSuite
from cops_lightning.model import CoPS


@dataclass(frozen=True)
class ScoredImage:
    """An evaluated image: its score, and the patch scores that its map expands from, on the CPU."""

    sample: Sample
    score: float
    patches: Tensor


@dataclass
class EncoderCount:
    """Images that went through the image encoder, and images that did not need to, as the cache had their features."""

    encoded: int = 0
    from_cache: int = 0


class ScoringTask(LightningModule):
    """Collects the scores that `model` gives each target in testing."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model
        self.suites: list[MetricSuite] = []
        self.scored: list[list[ScoredImage]] = []
        self.count = EncoderCount()

    def expect_targets(self, names: list[str]) -> None:
        """Prepare a fresh metric suite per target, in the order of the test dataloaders."""
        self.suites = [MetricSuite(name, self.model.expand) for name in names]
        self.scored = [[] for _ in names]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores of a batch, into the suite of its target."""
        categories = [sample.category for sample in batch.samples]
        if isinstance(self.model, FeatureDetector):
            features = self._features(self.model, batch)
            scores = self.model.score_features(features, keys=batch.keys, categories=categories)
        else:
            assert batch.images is not None, "a model that reads images is not served features"
            self.count.encoded += len(batch)
            scores = self.model.score(batch.images, keys=batch.keys, categories=categories)
        image, patch = scores.image.float().cpu(), scores.patch.float().cpu()
        masks = None if batch.masks is None else batch.masks.cpu()
        self.suites[dataloader_idx].update(image, patch, masks, batch.labels.cpu(), categories, batch.keys)
        self.scored[dataloader_idx].extend(map(ScoredImage, batch.samples, image.tolist(), patch))

    def _features(self, model: FeatureDetector, batch: Batch) -> Features:
        """Features from the cache, or of images that the encoder sees now."""
        if batch.features is not None:
            return model.pooled(Features(batch.features.image.float(), batch.features.patches.float()))
        assert batch.images is not None, "a batch has images or features"
        self.count.encoded += len(batch)
        return model.encode(batch.images)


class CopsTask(ScoringTask):
    """Trains the prompts of `model` with Adam.

    Only trained weights enter `state_dict`, under their released names; checkpoints carry `stamp` beside them.
    """

    model: CoPS

    def __init__(self, model: CoPS, stamp: Stamp, lr: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999)) -> None:
        super().__init__(model)
        self.stamp, self.lr, self.betas = stamp, lr, betas

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over everything that trains, as released."""
        parameters = [parameter for _, parameter in self.model.released_parameters()]
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Total loss of a batch; every part is logged."""
        features, noise = self._features(self.model, batch), self._noise(batch)
        losses = self.model.losses_of_features(features, batch.masks, batch.labels, noise)
        logged = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(logged, on_step=True, on_epoch=True, batch_size=len(batch))
        self.log("loss", losses["total"].detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return losses["total"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Trained weights under their released names; the frozen backbone is named by its hash in the stamp."""
        return {name: parameter.detach() for name, parameter in self.model.released_parameters()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take exactly the weights that `state_dict` gives. Raises CheckpointError naming what differs."""
        if problems := mismatches(state_dict, self.state_dict()):
            raise CheckpointError(f"The checkpoint does not fit this model: {problems}. Use the one of this run.")
        self.model.load_released(state_dict)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint says about itself."""
        checkpoint[STAMP] = self.stamp.as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that were trained on another backbone."""
        if checkpoint[STAMP]["fingerprint"] != self.stamp.fingerprint:
            raise CheckpointError(
                f"The checkpoint was trained on the backbone {checkpoint[STAMP]['backbone']} with other weights than "
                f"{self.stamp.backbone} has here. Load the same CLIP."
            )

    def _noise(self, batch: Batch) -> Noise:
        """The VAE's draw, a function of (seed, epoch, image), so that a resumed run repeats an uninterrupted one."""
        width, seed, epoch = self.model.backbone.width, self.model.seed, self.current_epoch
        draws = [torch.randn(width, generator=named_generator(seed, "vae", epoch, key)) for key in batch.keys]
        return torch.stack(draws).to(self.device)
