"""One way to open any checkpoint."""

from pathlib import Path
from typing import Any

import torch

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import CheckpointError
from cops_lightning.models.build import build_detector, find_node
from cops_lightning.models.checkpoint import read_checkpoint
from cops_lightning.models.detector import Detector, TrainableDetector

Node = dict[str, Any]


def load(
    path: str | Path,
    *,
    auxiliary: str | None = None,
    backbone: FrozenClip | str | Node | None = None,
    model: Detector | str | Node | None = None,
    weights: str | Path | None = None,
    precision: Precision | None = None,
    device: str | torch.device = "cpu",
) -> Detector:
    """The trained detector of a checkpoint, ready for `predict`.

    Args:
        path: a checkpoint of cops-train or of Lightning's Trainer, or one in the authors' released format.
        auxiliary: for the released format, what it was trained on: visa or mvtec, which decides CoPS's preset.
        backbone: the frozen CLIP, the name of one in conf/backbone, or a node; default: what the checkpoint says.
        model: a detector, the name of one in conf/model, or a node; default: what the checkpoint says.
        weights: file with CLIP's weights, where it lies elsewhere than the backbone's node says.
        precision: of the image encoder; default: what the backbone's node says.
        device: where to compute.

    A backbone that is given as an object keeps its weights and precision.

    Raises CheckpointError where the file is none of these, does not fit, or does not say what it needs. Only classes of
    this library are built from what the file says.
    """
    checkpoint = read_checkpoint(Path(path))
    saved = checkpoint.saved
    if saved is None and (backbone is None or (auxiliary is None and model is None)):
        raise CheckpointError(
            f"{path} is in the released format, which says neither its backbone nor what it was trained on. Add "
            'auxiliary="visa" or auxiliary="mvtec", and backbone="vit_l14_336".'
        )
    if not isinstance(model, Detector):
        asked = [] if auxiliary is None else [f"auxiliary={auxiliary}"]
        node = saved.own_model() if saved and model is None else find_node("model", model or checkpoint.method, *asked)
        if not isinstance(backbone, FrozenClip):
            backbone = dict(
                saved.own_backbone() if saved and backbone is None else find_node("backbone", backbone or "")
            )
            given = {"weights": None if weights is None else str(weights), "precision": precision}
            backbone |= {key: value for key, value in given.items() if value is not None}
        model = build_detector(node, backbone)
    if saved is not None:
        saved.require_backbone(model.backbone.record)
    if not isinstance(model, TrainableDetector):
        raise CheckpointError(f"{path} holds trained weights, and {type(model).__name__} has none to fill.")
    checkpoint.fill(model)
    return model.to(device).eval()
