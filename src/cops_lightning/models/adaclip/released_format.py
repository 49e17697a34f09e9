"""The file format of the authors: learnt tensors by their names in the program, nothing around them and none of CLIP.

The released program loads it without a look at missing or misspelt names; here both are refused. What a state dict of
torch has beside its tensors, where a module keeps versions, holds the fingerprint of the CLIP that was trained over.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cops_lightning.core.tensor_files import write_tensors
from cops_lightning.core.types import StateDict
from cops_lightning.models.adaclip.settings import Sizes

PREFIX = "clip_model."
METADATA, CLIP = "_metadata", "clip"
STATIC = f"{PREFIX}visual_prompter.static_prompts."


def recognise(content: Mapping[str, Any]) -> StateDict | None:
    """The tensors of a released checkpoint of AdaCLIP, None for any other content of a file."""
    return content if any(str(name).startswith(STATIC) for name in content) else None


def sizes_of(weights: StateDict) -> Sizes | None:
    """The numbers of layers and tokens that weights have, None where there are none to count."""
    static = [torch.as_tensor(value) for name, value in weights.items() if name.startswith(STATIC)]
    return Sizes(len(static), len(static[0])) if static and static[0].dim() == 2 and len(static[0]) else None


def clip_of(content: Mapping[str, Any]) -> Any:
    """What a file says of the CLIP that was trained over: a fingerprint, or None where it says nothing."""
    return getattr(content, METADATA, {}).get(CLIP)


def write_released(path: Path, learnt: StateDict, clip: str) -> None:
    """Write the released checkpoint format, atomically."""
    state = OrderedDict((name, value.detach().cpu().clone()) for name, value in learnt.items())
    setattr(state, METADATA, {CLIP: clip})
    write_tensors(path, state)
