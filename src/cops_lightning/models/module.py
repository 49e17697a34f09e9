"""The LightningModules: scores of any detector, and steps, optimiser and checkpoints around `CoPS`; no mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor

from cops_lightning.core.distributed import from_all
from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.processes import world_size
from cops_lightning.core.types import Batch, Features, Sample
from cops_lightning.metrics.suite import MetricSuite
from cops_lightning.models.checkpoint import STAMP, Stamp
from cops_lightning.models.detector import Detector, FeatureDetector, TrainableDetector
from cops_lightning.models.sharing import mean_over_processes, share_of


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


class Pending(NamedTuple):
    """A tested batch whose scores are on their way to the CPU; they are there once `copied` has happened."""

    target: int
    batch: Batch
    image: Tensor
    patch: Tensor
    copied: torch.cuda.Event | None


class ScoringTask(LightningModule):
    """Collects the scores that `model` gives each target in testing."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model
        self.suites: list[MetricSuite] = []
        self.scored: list[list[ScoredImage]] = []
        self.count = EncoderCount()
        self._pending: Pending | None = None

    def expect_targets(self, names: list[str]) -> None:
        """Prepare a fresh metric suite per target, in the order of the test dataloaders."""
        self.suites = [MetricSuite(name, self.model.expand) for name in names]
        self.scored = [[] for _ in names]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores of a batch, into the suite of its target."""
        categories = [sample.category for sample in batch.samples]
        if isinstance(self.model, FeatureDetector):
            features = self._features(self.model, batch)
            scores = self.model.score_features(features, names=batch.names, categories=categories)
        else:
            assert batch.images is not None, "a model that reads images is not served features"
            self.count.encoded += len(batch)
            scores = self.model.score(batch.images, names=batch.names, categories=categories)
        on_gpu = scores.image.is_cuda
        image, patch = (x.float().to("cpu", non_blocking=on_gpu) for x in (scores.image, scores.patch))
        copied = torch.cuda.current_stream().record_event() if on_gpu else None
        # The batch before is taken in while the GPU computes this one.
        self._take_in()
        self._pending = Pending(dataloader_idx, batch, image, patch, copied)

    def on_test_epoch_end(self) -> None:
        """Take in the last batch."""
        self._take_in()

    def _take_in(self) -> None:
        if self._pending is None:
            return
        target, batch, image, patch, copied = self._pending
        self._pending = None
        if copied is not None:
            copied.synchronize()
        categories = [sample.category for sample in batch.samples]
        masks = None if batch.masks is None else batch.masks.cpu()
        self.suites[target].update(image, patch, masks, batch.labels.cpu(), categories, batch.keys)
        self.scored[target].extend(map(ScoredImage, batch.samples, image.tolist(), patch))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copies that need not wait; in testing, masks and labels stay where metrics read them."""
        if self.trainer.testing:
            moved = replace(batch, masks=None).to(device, non_blocking=True)
            return replace(moved, masks=batch.masks, labels=batch.labels)
        return batch.to(device, non_blocking=True)

    def images_of_all(self) -> list[list[ScoredImage]]:
        """The scored images of every target, of all processes, in the order of the dataset. All must ask together."""
        merged = []
        parts = from_all(self.scored)
        for target in range(len(self.scored)):
            shares = [part[target] for part in parts]
            whole = [shares[0][0]] * sum(map(len, shares)) if shares[0] else []
            for at, share in enumerate(shares):
                whole[at :: len(shares)] = share
            merged.append(whole)
        return merged

    def count_of_all(self) -> EncoderCount:
        """The encoder's count over all processes. All must ask together."""
        counts = from_all((self.count.encoded, self.count.from_cache))
        return EncoderCount(*(sum(column) for column in zip(*counts, strict=True)))

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

    model: TrainableDetector

    def __init__(
        self, model: TrainableDetector, stamp: Stamp, lr: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999)
    ) -> None:
        super().__init__(model)
        self.stamp, self.lr, self.betas = stamp, lr, betas

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over everything that trains, as released."""
        parameters = [parameter for _, parameter in self.model.trained_parameters()]
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Total loss of a batch; every part is logged."""
        features = self._features(self.model, batch)
        drawn = self.model.training_draws(batch.names, self.current_epoch)
        draws = {name: draw.to(self.device) for name, draw in drawn.items()}
        share, size = None, len(batch)
        if world_size() > 1:
            batches = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
            share = share_of(batches, batch_idx, features, batch.masks, self.model.backbone.patch_size)
            size = batches.whole(batch_idx)
        losses = self.model.losses(features, batch.masks, batch.labels, draws, share)
        shown = mean_over_processes({name: value.detach() for name, value in losses.items()})
        logged = {f"train/{name}": value for name, value in shown.items()}
        self.log_dict(logged, on_step=True, on_epoch=True, batch_size=size)
        self.log("loss", shown["total"], prog_bar=True, logger=False, batch_size=size)
        return losses["total"]

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Trained weights under their released names; the frozen backbone is named by its hash in the stamp."""
        return {name: parameter.detach() for name, parameter in self.model.trained_parameters()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take exactly the weights that `state_dict` gives. Raises CheckpointError naming what differs."""
        self.model.load_trained(state_dict)

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
