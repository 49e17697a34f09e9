"""The file format of the authors: {"prompt_learner": names to tensors}, without the VAE encoder."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.tensor_files import names_of, read_tensors, require_tensors, write_tensors
from cops_lightning.core.types import StateDict

KEY = "prompt_learner"
# Inference needs none of these.
VAE_ENCODER = "vae_encoder."


def read_released(path: Path) -> StateDict:
    """The tensors of a released checkpoint file. Raises CheckpointError for any other file, saying what it holds."""
    content = read_tensors(path, CheckpointError)
    if KEY not in content:
        raise CheckpointError(
            f"{path} is not a released CoPS checkpoint: its top-level keys are {names_of(content)}, "
            f"expected {KEY}. Give the .pth that the authors publish or that save_released wrote."
        )
    return require_tensors(content[KEY], f"{path}: {KEY}", CheckpointError)


def write_released(path: Path, parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Write the released checkpoint format, atomically, leaving the VAE encoder out."""
    state = {
        name: parameter.detach().cpu().clone() for name, parameter in parameters if not name.startswith(VAE_ENCODER)
    }
    write_tensors(path, {KEY: state})
