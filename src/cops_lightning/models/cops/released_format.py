"""The file format of the authors: {"prompt_learner": names to tensors}, without the VAE encoder."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from cops_lightning.clip.weights import read_state
from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.files import replacing
from cops_lightning.core.types import StateDict

KEY = "prompt_learner"
# Inference needs none of these.
VAE_ENCODER = "vae_encoder."


def read_released(path: Path) -> StateDict:
    """The tensors of a released checkpoint file. Raises CheckpointError for any other file, saying what it holds."""
    content = read_state(path, CheckpointError)
    inner = content.get(KEY)
    if not isinstance(inner, dict):
        raise CheckpointError(
            f"{path} is not a released CoPS checkpoint: its top-level keys are {', '.join(map(str, content))}, "
            f"expected {KEY}. Give the .pth that the authors publish or that save_released wrote."
        )
    return inner


def write_released(path: Path, parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Write the released checkpoint format, atomically, leaving the VAE encoder out."""
    state = {
        name: parameter.detach().cpu().clone() for name, parameter in parameters if not name.startswith(VAE_ENCODER)
    }
    with replacing(path) as partial:
        torch.save({KEY: state}, partial)
