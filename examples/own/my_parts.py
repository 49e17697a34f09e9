"""Parts of one's own: a detector, a data module, a callback, a logger, an optimiser, a metric, and their settings.

`cops-train --config-dir FOLDER` finds this file because it lies in FOLDER, beside the YAML files that name its classes.
Delete what you do not need.
"""

import json
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics import Metric

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.types import Features
from cops_lightning.data.datamodules import AnomalyDataModule, CopsDataModule
from cops_lightning.models.anomaly_map import Scores, pool_neighbours
from cops_lightning.models.detector import FeatureDetector


class OddPatch(FeatureDetector):
    """A patch is as anomalous as it is unlike the mean patch of its own image; an image is as its worst patches.

    Nothing is learnt, so it needs no auxiliary dataset. For a detector that learns, see TrainableDetector.

    Args:
        backbone: the frozen CLIP; it is given, not configured.
        worst: how many patches decide the score of the image.
        pool: side of the neighbourhood, in patches and odd, over which patch features are averaged.
    """

    def __init__(self, backbone: FrozenClip, worst: int = 1, pool: int = 1) -> None:
        super().__init__(backbone)
        self.worst, self.pool = worst, pool

    def prepared(self, raw: Features) -> Features:
        """The backbone's features, patches averaged over their neighbourhood."""
        return Features(raw.image, pool_neighbours(raw.patches, self.pool))

    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Scores in [0, 1]: half of one minus the cosine to the mean patch."""
        patches = normalize(features.patches, dim=-1)  # (b, p, d)
        mean = normalize(patches.mean(dim=1, keepdim=True), dim=-1)
        odd = (1 - (patches * mean).sum(dim=-1).clamp(-1, 1)) / 2  # (b, p)
        return Scores(image=odd.topk(self.worst, dim=1).values.mean(dim=1), patch=odd, expand=self.expand)


class FewImages(CopsDataModule):
    """Trains on the first few images of every category and label only.

    Args:
        auxiliary, targets: as in CopsDataModule; they are given, not configured.
        shots: images to keep of every category and label.
        options: the other arguments of CopsDataModule.
    """

    def __init__(
        self,
        auxiliary: AnomalyDataModule | None = None,
        targets: Sequence[AnomalyDataModule] = (),
        *,
        shots: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(auxiliary, targets, **options)
        self.shots = shots

    def find(self) -> None:
        """Find all images, then keep few of those that are trained on."""
        super().find()
        if self.auxiliary is not None:
            seen: dict[tuple[str, int], int] = {}
            kept = []
            for sample in self.auxiliary.test:  # the test split is what has anomalies, so it is what is trained on
                group = (sample.category, sample.label)
                seen[group] = seen.get(group, 0) + 1
                if seen[group] <= self.shots:
                    kept.append(sample)
            self.auxiliary = replace(self.auxiliary, test=tuple(kept))


class WeightNorm(Callback):
    """Logs the norm of all trained weights once an epoch, which every logger then shows.

    Args:
        name: that it is logged under.
    """

    def __init__(self, name: str = "weights/norm") -> None:
        self.name = name

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """`state_dict` holds the trained weights alone."""
        weights = [weight.flatten() for weight in pl_module.state_dict().values()]
        pl_module.log(self.name, torch.cat(weights).norm())


class JsonLines(Logger):
    """A line of JSON per step.

    Args:
        file: to append to.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        self.file = Path(file)

    @property
    def name(self) -> str:
        """Lightning may name folders after it."""
        return "json_lines"

    @property
    def version(self) -> str:
        """Likewise."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers by name."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps({"step": step, **{key: float(value) for key, value in metrics.items()}}) + "\n")

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration; run.json has it already."""


def without_decay(params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 1e-2) -> torch.optim.Optimizer:
    """AdamW, the weights of single numbers and vectors left out of the decay. A class would do as well."""
    listed = list(params)
    groups = [
        {"params": [p for p in listed if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in listed if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


class Margin(Metric):
    """Mean score of anomalous images less that of normal ones, in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(2), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Scores and labels, 0 normal and 1 anomalous, of images of one category."""
        for label in (0, 1):
            self.total[label] += scores[labels == label].sum()
            self.count[label] += (labels == label).sum()

    def compute(self) -> Tensor:
        """Of all that was seen."""
        normal, anomalous = self.total / self.count
        return anomalous - normal
