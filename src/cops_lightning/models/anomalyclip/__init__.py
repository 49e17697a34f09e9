"""AnomalyCLIP: object-agnostic prompt learning (arXiv 2310.18961)."""

from cops_lightning.models.anomalyclip.model import AnomalyCLIP
from cops_lightning.models.anomalyclip.settings import Preset, Sizes

__all__ = ["AnomalyCLIP", "Preset", "Sizes"]
