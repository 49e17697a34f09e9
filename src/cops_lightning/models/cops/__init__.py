"""CoPS: conditional prompt synthesis (arXiv 2508.03447)."""

from cops_lightning.models.cops.model import CoPS
from cops_lightning.models.cops.settings import Components, Preset, Readings, Sizes, find_preset

__all__ = ["CoPS", "Components", "Preset", "Readings", "Sizes", "find_preset"]
