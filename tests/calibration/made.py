"""Calibrations that are made in a line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cops_lightning.calibration import Calibration, Identity

IDENTITY = Identity("CoPS", "1a2b", "3c4d", "tiny", "5e6f", "version 1", "fp32", 3, 48, "fixed")


@dataclass(frozen=True)
class Made:
    """What a calibration needs of a prediction."""

    score: float
    peak: float
    content: str
    feature: np.ndarray | None = None


def calibration_of(
    scores: Sequence[float],
    level: float = 0.05,
    *,
    anomalous: Sequence[float] = (),
    features: np.ndarray | None = None,
    names: str | None = "image",
    **options,
) -> Calibration:
    """That of images with these scores, each of them the highest value of its map too."""
    of = [None] * len(scores) if features is None else features
    # Names stand for contents: without a given one an image is called after its place among equal scores.
    called = [f"{names} {i}" if names else f"{score} {list(scores[:i]).count(score)}" for i, score in enumerate(scores)]
    normal = [Made(score, score, name, one) for score, name, one in zip(scores, called, of, strict=True)]
    other = [Made(score, score, f"defect {i}") for i, score in enumerate(anomalous)]
    return Calibration.of(IDENTITY, normal, level, anomalous=other, **options)
