"""Checkpoints: trained weights only, with the settings they were trained under and the hash of the frozen backbone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.clip.weights import read_state
from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.files import replacing
from cops_lightning.core.types import StateDict

STAMP = "cops_lightning"
# The groups of the configuration that decide what a model computes.
METHOD = ("auxiliary", "backbone", "model", "components", "readings", "sizes")


@dataclass(frozen=True)
class Stamp:
    """What a checkpoint says about itself beyond its weights.

    settings: the groups METHOD of the configuration, the variant's name and the seed. Checkpoints that are older than
        a group lack it: they were made with its defaults.
    trained_on: every "dataset/category" whose images were trained on.
    """

    backbone: str
    fingerprint: str
    settings: Mapping[str, Any]
    trained_on: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, so that the checkpoint can be read with weights_only."""
        return {
            "backbone": self.backbone,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
            "trained_on": list(self.trained_on),
        }

    def require_backbone(self, record: BackboneRecord, path: Path) -> None:
        """Raise CheckpointError unless the frozen weights are those that the checkpoint was trained on."""
        if record.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{path} was trained on the backbone {self.backbone} with weights {self.fingerprint[:12]}; the one "
                f"here is {record.name} ({record.origin}) with weights {record.fingerprint[:12]}. Load the same CLIP, "
                "by backbone=NAME and backbone.weights=FILE."
            )


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights under their released names. `stamp` is None for a file in the released format."""

    path: Path
    weights: StateDict
    stamp: Stamp | None


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that a killed run leaves whole: the last one stays until the next is complete.

    Lightning's own are moved from the folder of temporary files, which copies where that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` in one step."""
        with replacing(Path(path)) as partial:
            torch.save(checkpoint, partial)


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that `cops-train` wrote, or one in the authors' released format.

    Raises CheckpointError for anything else, saying what the file holds.
    """
    content = read_state(path, CheckpointError)
    if isinstance(content.get("prompt_learner"), Mapping):
        return Checkpoint(path, content["prompt_learner"], None)
    stamp, weights = content.get(STAMP), content.get("state_dict")
    if not isinstance(stamp, Mapping) or not isinstance(weights, Mapping):
        raise CheckpointError(
            f"{path} is no CoPS checkpoint: its top-level keys are {', '.join(map(str, content)) or 'none'}. Expected "
            "one of cops-train's checkpoints/*.ckpt, or a released .pth with the key prompt_learner."
        )
    return Checkpoint(
        path,
        weights,
        Stamp(stamp["backbone"], stamp["fingerprint"], stamp["settings"], tuple(stamp["trained_on"])),
    )
