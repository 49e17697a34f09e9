"""The file format of the authors: {"prompt_learner": names to tensors}, without the VAE encoder."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cops_lightning.core.tensor_files import write_tensors
from cops_lightning.core.types import StateDict

KEY = "prompt_learner"
# Inference needs none of these.
VAE_ENCODER = "vae_encoder."


def recognise(content: Mapping[str, Any]) -> StateDict | None:
    """The tensors of a released checkpoint of CoPS, None for any other content of a file."""
    inner = content.get(KEY)
    return inner if isinstance(inner, Mapping) and "token_prefix_pos" not in inner else None


def write_released(path: Path, parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Write the released checkpoint format, atomically, leaving the VAE encoder out."""
    state = {
        name: parameter.detach().cpu().clone() for name, parameter in parameters if not name.startswith(VAE_ENCODER)
    }
    write_tensors(path, {KEY: state})
