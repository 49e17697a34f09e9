"""Where the files of a CLIP lie, and what tells them from those of another, before any of them is loaded."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cops_lightning.core.errors import WeightsError
from cops_lightning.core.hashes import sha256_of

WEIGHTS_VARIABLE = "COPS_CLIP_WEIGHTS"
LOCAL_DIRECTORY = "local-dir:"
PACKAGED = "packaged:"
PACKAGE = Path(__file__).parents[1]
LOCAL_CONFIG = "open_clip_config.json"
LOCAL_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# Merges of a local model's own vocabulary, beside its configuration; without the file it is CLIP's.
VOCABULARY = "bpe_vocabulary.txt.gz"
RANDOM = "random"


def local_folder(name: str) -> Path | None:
    """The folder of a model that is stored in open_clip's local-dir layout, None for any other name."""
    if name.startswith(PACKAGED):
        return PACKAGE / "demo" / name.removeprefix(PACKAGED)
    if name.startswith(LOCAL_DIRECTORY):
        return Path(name.removeprefix(LOCAL_DIRECTORY)).expanduser()
    return None


def given_file(name: str, weights: str | Path | None = None) -> Path | None:
    """The weights file that is given, beside a local model's configuration, or named by the environment, if any.

    Raises WeightsError for a folder of a local model without one.
    """
    if weights is not None:
        return Path(weights).expanduser()
    folder = local_folder(name)
    if folder is not None:
        found = [folder / file for file in LOCAL_WEIGHTS if (folder / file).is_file()]
        if not found:
            raise WeightsError(f"{folder} has no weights; expected {' or '.join(LOCAL_WEIGHTS)} beside {LOCAL_CONFIG}.")
        return found[0]
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else None


def weights_fingerprint(backbone: Mapping[str, Any]) -> str | None:
    """SHA-256 over the files that a node of `load_backbone` would read: weights, configuration and vocabulary.

    It is the same wherever they lie, and cheap where they were read before. None where the node says all: weights that
    open_clip publishes under a tag, random ones of a published model. Raises WeightsError where a file is absent or
    cannot be read.
    """
    name, weights = str(backbone.get("name", "")), backbone.get("weights")
    folder, random = local_folder(name), backbone.get("pretrained") == RANDOM
    beside = [] if folder is None else [folder / file for file in (LOCAL_CONFIG, VOCABULARY)]
    file = None if random else given_file(name, weights)
    files = {"weights": file} if file is not None else {}
    files |= {path.name: path for path in beside if path.is_file()}
    if not files:
        return None
    content = hashlib.sha256()
    for role, path in files.items():
        content.update(f"{role} {sha256_of(path, WeightsError)}\n".encode())
    return content.hexdigest()
