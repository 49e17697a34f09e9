"""The frozen backbone: CLIP weights, image encoder, text encoder."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cops_lightning.clip.frozen_clip import BackboneRecord, FrozenClip
    from cops_lightning.clip.weights import load_backbone

__all__ = ["BackboneRecord", "FrozenClip", "load_backbone"]

_MODULES = {"BackboneRecord": "frozen_clip", "FrozenClip": "frozen_clip", "load_backbone": "weights"}


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: open_clip takes seconds."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"cops_lightning.clip.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
