"""Bayes-PFL: Bayesian prompt flow learning (arXiv 2503.10080)."""

from cops_lightning.models.bayes_pfl.model import BayesPFL
from cops_lightning.models.bayes_pfl.settings import Preset, Sizes

__all__ = ["BayesPFL", "Preset", "Sizes"]
