"""AdaCLIP: static and dynamic prompts in both towers (ECCV 2024, arXiv 2407.15795)."""

from cops_lightning.models.adaclip.model import AdaCLIP
from cops_lightning.models.adaclip.settings import Preset, Sizes

__all__ = ["AdaCLIP", "Preset", "Sizes"]
