"""Where CLIP weights come from, which file formats they have, and what they are known to be."""

import copy
import difflib
import hashlib
import json
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import torch
from annotated_types import Ge
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from open_clip.model import CLIP
from open_clip.pretrained import download_pretrained

from cops_lightning.clip.frozen_clip import (
    ARCHIVE_SIZES,
    SUITABLE,
    BackboneRecord,
    FrozenClip,
    architecture_of,
    build_clip,
    refuse_unsuitable,
)
from cops_lightning.clip.weight_files import (
    LOCAL_CONFIG,
    LOCAL_WEIGHTS,
    RANDOM,
    WEIGHTS_VARIABLE,
    given_file,
    local_folder,
)
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import WeightsError, told
from cops_lightning.core.hashes import sha256_of
from cops_lightning.core.tensor_files import is_torchscript, read_tensors, require_tensors
from cops_lightning.core.types import StateDict

FROM_WEIGHTS = "from_weights"
OWN = "own"


def load_backbone(
    name: str,
    pretrained: str,
    *,
    weights: str | Path | None = None,
    image_size: Annotated[int, Ge(1)] | None = None,
    deep_layers: Annotated[int, Ge(0)] = 8,
    seed: Annotated[int, Ge(0)] = 0,
    precision: Precision = "fp32",
    compile: bool = False,
) -> FrozenClip:
    """A frozen CLIP. With a local file nothing touches the network.

    Raises WeightsError for an unknown or unsuitable model, for weights that are absent, damaged, of another
    architecture or trained with another activation, and when there is neither a file nor a network.

    Args:
        name: an open_clip model, `local-dir:FOLDER` as open_clip writes one, `packaged:NAME` for one that comes with
            this library, or `from_weights` to read the architecture off an OpenAI-format file.
        pretrained: whose weights they are: an open_clip tag such as `openai`; `own` for weights from elsewhere, whose
            origin is not checked; or `random`, the only way to get random weights.
        weights: a local file. Without it, the file that the environment variable COPS_CLIP_WEIGHTS names, else
            open_clip's download of the tag.
        image_size: side in pixels to which images are resized; None is the size that the image tower was trained at.
        deep_layers: how many text layers after the first get learnt tokens of their own.
        seed: of random weights.
        precision: of the image tower.
        compile: run the image tower through torch.compile.
    """
    options: dict[str, Any] = {
        "image_size": image_size,
        "deep_layers": deep_layers,
        "precision": precision,
        "compile": compile,
    }
    architecture = None if name == FROM_WEIGHTS else _architecture(name)
    if pretrained == RANDOM:
        if architecture is None or weights is not None:
            raise WeightsError(
                f"Random weights were asked for, yet the backbone is {name} with weights {weights}. "
                "Give an open_clip model name and no weights file, or another `pretrained`."
            )
        clip = _random_clip(architecture, seed)
        record = BackboneRecord(name, f"{RANDOM} weights, seed {seed}", fingerprint(clip.state_dict()))
        return FrozenClip(clip, record, **options)
    if architecture is not None:
        _check_activation(name, pretrained, architecture)
    path = given_file(name, weights) or _download(name, pretrained)
    state = _plain_state(read_tensors(path, WeightsError), path)
    checksum = sha256_of(path, WeightsError)
    published = _published_by_openai().get(checksum)
    if architecture is not None:
        _check_file(name, architecture, path, published)
    record = BackboneRecord(
        name, f"file {path.name}", fingerprint(state), checksum, published_by_openai=published is not None
    )
    return build_clip(architecture or architecture_of(state), state, record, **options)


def local_weights(name: str, pretrained: str, weights: str | Path | None = None) -> Path | None:
    """The file that `load_backbone` would read, which may be absent; None where it would have to be downloaded.

    Raises WeightsError for a folder of a local model without weights, and for an unknown tag.
    """
    if (given := given_file(name, weights)) is not None or name == FROM_WEIGHTS or pretrained == OWN:
        return given
    return _cached(open_clip.get_pretrained_cfg(name, _tag(name, pretrained)))


def published_file(name: str) -> tuple[str, str] | None:
    """SHA-256 and address of the file that OpenAI publishes for an open_clip model, None where it publishes none."""
    checksum = next((of for of, names in _published_by_openai().items() if name in names), None)
    return None if checksum is None else (checksum, str(open_clip.get_pretrained_url(name, "openai")))


def clip_from_state(clip: StateDict | str | Path) -> FrozenClip:
    """CLIP from an OpenAI-format state dict, or from a file with one; the architecture is read off the shapes.

    Raises WeightsError if it is not the state dict of a ViT that CoPS can use.
    """
    if isinstance(clip, str | Path):
        return load_backbone(FROM_WEIGHTS, "openai", weights=clip)
    state = {name: torch.as_tensor(value) for name, value in clip.items()}
    record = BackboneRecord("the given CLIP", "the given mapping", fingerprint(state))
    return build_clip(architecture_of(state), state, record)


def fingerprint(state: StateDict) -> str:
    """SHA-256 over names, shapes and values in fp32: the same weights give the same text in every file format."""
    content = hashlib.sha256()
    for name in sorted(set(state) - set(ARCHIVE_SIZES)):
        value = state[name].detach().cpu().float().contiguous()
        content.update(f"{name}{tuple(value.shape)}".encode())
        content.update(value.numpy().tobytes())
    return content.hexdigest()


def _plain_state(content: dict[str, Any], path: Path) -> StateDict:
    """The CLIP state dict inside a file: open_clip's training checkpoints nest it and prefix its names."""
    nested = content.get("state_dict")
    inner = dict(nested) if isinstance(nested, Mapping) else content
    weights = {name: value for name, value in inner.items() if name not in ARCHIVE_SIZES}
    return {
        name.removeprefix("module."): value for name, value in require_tensors(weights, str(path), WeightsError).items()
    }


def _architecture(name: str) -> dict[str, Any]:
    """open_clip's configuration of a model, refused early where its text tower is of another kind."""
    folder = local_folder(name)
    if folder is not None:
        file = folder / LOCAL_CONFIG
        layout = (
            f"Expected a folder in open_clip's local-dir layout: {LOCAL_CONFIG} with model_cfg, beside "
            f"{LOCAL_WEIGHTS[0]}."
        )
        with told(WeightsError, f"{file} cannot be read", layout):
            config = dict(json.loads(file.read_text())["model_cfg"])
    else:
        config = open_clip.get_model_config(name)
        if config is None:
            near = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise WeightsError(f"open_clip has no model {name}. {hint}open_clip.list_models() prints all names.")
    config = copy.deepcopy(config)
    text, vision = config.get("text_cfg", {}), config.get("vision_cfg", {})
    kinds = {
        "its text tower is a Hugging Face model": "hf_model_name" in text,
        "it has a tokenizer of its own": "hf_tokenizer_name" in text,
        "its text tower is not CLIP's own": config.pop("custom_text", False) or "multimodal_cfg" in config,
        "its image tower comes from timm": "timm_model_name" in vision,
    }
    for kind, applies in kinds.items():
        if applies:
            raise WeightsError(f"{name} cannot carry CoPS: {kind}. {SUITABLE}")
    architecture = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu") if key in config}
    with torch.device("meta"):
        refuse_unsuitable(CLIP(**architecture), name)
    return architecture


def _random_clip(architecture: dict[str, Any], seed: int) -> CLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**architecture)


def _download(name: str, pretrained: str) -> Path:
    """The file that open_clip publishes under this tag."""
    ways_out = (
        f"Give a local file by backbone.weights=FILE or the environment variable {WEIGHTS_VARIABLE}, or run once where "
        "open_clip can download it"
    )
    if name == FROM_WEIGHTS or pretrained == OWN:
        raise WeightsError(f"No weights file was given for the backbone {name}. {ways_out}.")
    published = open_clip.get_pretrained_cfg(name, _tag(name, pretrained))
    if cached := _cached(published):
        return cached
    absent = f"The weights of {name} ({pretrained}) are not here, and downloading them failed"
    with told(WeightsError, absent, f"{ways_out}."):
        _require_network()
        return Path(download_pretrained(published))


def _cached(published: dict[str, Any]) -> Path | None:
    """The file that an earlier download of this tag left in the Hugging Face cache."""
    if repository := published.get("hf_hub", "").rstrip("/"):
        for name in LOCAL_WEIGHTS:
            found = try_to_load_from_cache(repository, name)
            if isinstance(found, str):
                return Path(found)
    return None


def _require_network() -> None:
    """Raise OSError at once where the hub cannot be reached; its own client would retry for most of a minute."""
    if not getproxies():
        host = urlsplit(ENDPOINT).hostname
        socket.create_connection((host, 443), timeout=10).close()


def _tag(name: str, pretrained: str) -> str:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        raise WeightsError(
            f"open_clip knows no weights {pretrained!r} for {name}; expected one of "
            f"{', '.join(tags) or 'none'}, or {OWN} with a weights file, or {RANDOM}."
        )
    return pretrained


def _check_activation(name: str, pretrained: str, architecture: dict[str, Any]) -> None:
    """Refuse a model that computes another activation than the weights of its tag were trained with."""
    if pretrained != OWN and local_folder(name) is None:
        trained = open_clip.get_pretrained_cfg(name, _tag(name, pretrained))
        _require_activation(name, architecture, f"{pretrained!r}", bool(trained.get("quick_gelu", False)))


def _check_file(name: str, architecture: dict[str, Any], path: Path, published: tuple[str, ...] | None) -> None:
    """Refuse OpenAI's weights under another model's name, or in a model without their QuickGELU."""
    if published is not None and name not in published:
        raise WeightsError(
            f"{path} is OpenAI's {published[0]}, yet the backbone is {name}. Set backbone.name={published[-1]}."
        )
    if published is not None or is_torchscript(path):
        _require_activation(name, architecture, f"in {path.name}, an OpenAI archive,", quick_gelu=True)


def _require_activation(name: str, architecture: dict[str, Any], what: str, quick_gelu: bool) -> None:
    if quick_gelu != bool(architecture.get("quick_gelu", False)):
        plain = name.removesuffix("-quickgelu")
        trained, computed = ("QuickGELU", "GELU") if quick_gelu else ("GELU", "QuickGELU")
        raise WeightsError(
            f"The weights {what} were trained with {trained}, yet the model {name} computes {computed}. "
            f"Set backbone.name={f'{plain}-quickgelu' if quick_gelu else plain}."
        )


@cache
def _published_by_openai() -> dict[str, tuple[str, ...]]:
    """SHA-256 of each file that OpenAI publishes (it is part of the address) and open_clip's names for the model."""
    names: dict[str, tuple[str, ...]] = {}
    for model in open_clip.list_pretrained_models_by_tag("openai"):
        url = open_clip.get_pretrained_url(model, "openai")
        if url:
            checksum = url.split("/")[-2]
            names[checksum] = (*names.get(checksum, ()), model)
    return names
