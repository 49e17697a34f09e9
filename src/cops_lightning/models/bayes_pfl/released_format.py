"""The file format of the authors: {"MyModel": names to tensors}, where flows repeat the encoders that they share.

Added here are "stage", by which stage's image score the weights are to be read, and "clip", the fingerprint of the CLIP
that they were trained over. The released program looks for the stage in the name of the file,
epoch_post_EPOCH_STAGE.pth, the second for any other name, and leaves the CLIP to the user.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.tensor_files import write_tensors
from cops_lightning.core.types import StateDict

KEY, STAGE, CLIP = "MyModel", "stage", "clip"
FLOWS = {"PFL_context": "context", "PFL_normal": "state", "PFL_abnormal": "state"}
COPIES = {f"{flow}.{part}.": f"{of}_{part}." for flow, of in FLOWS.items() for part in ("encoder", "decoder")}
# Never used and never trained.
DEAD = re.compile(r"(context|state)_decoder\.|PFL_\w+\.p_mu\.")


def recognise(content: Mapping[str, Any]) -> StateDict | None:
    """The tensors of a released checkpoint of Bayes-PFL, None for any other content of a file."""
    inner = content.get(KEY)
    return inner if isinstance(inner, Mapping) and "prompt_state_abnormal" in inner else None


def stage_of(content: Mapping[str, Any], path: Path) -> int:
    """By which stage's image score a file is read: as it says, or as its name does."""
    named = re.fullmatch(r".*_(\d+)", path.stem) if "epoch_post" in str(path) else None
    return int(content.get(STAGE, named.group(1) if named else 2))


def without_copies(weights: StateDict, origin: str) -> StateDict:
    """Every tensor once. Raises CheckpointError where what must be the same tensor is not."""
    kept = dict(weights)
    for name, own in _copies(weights):
        if own not in weights or not torch.equal(torch.as_tensor(kept.pop(name)), torch.as_tensor(weights[own])):
            raise CheckpointError(f"{origin} is damaged: its {name} is not the {own} that it repeats.")
    return kept


def _copies(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names that repeat a tensor, each with the name of that tensor."""
    found = ((name, copy, own) for name in names for copy, own in COPIES.items() if name.startswith(copy))
    return [(name, own + name.removeprefix(copy)) for name, copy, own in found]


def write_released(path: Path, learnt: StateDict, stage: int, clip: str) -> None:
    """Write the released checkpoint format, atomically."""
    state = {name: value.detach().cpu().clone() for name, value in learnt.items()}
    copies = {
        copy + name.removeprefix(own): value
        for name, value in state.items()
        for copy, own in COPIES.items()
        if name.startswith(own)
    }
    write_tensors(path, {KEY: {**state, **copies}, STAGE: stage, CLIP: clip})
