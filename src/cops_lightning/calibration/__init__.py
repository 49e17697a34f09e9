"""From scores of normal images to thresholds and p-values with a guarantee, in plain numpy and scipy."""

from cops_lightning.calibration.calibration import Calibration
from cops_lightning.calibration.conformal import needed, select
from cops_lightning.calibration.drift import Drift, DriftWatch
from cops_lightning.calibration.identity import Identity
from cops_lightning.calibration.labelled import Weighing

__all__ = ["Calibration", "Drift", "DriftWatch", "Identity", "Weighing", "needed", "select"]
