"""Which detector a calibration is of, and what it needs of a prediction."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cops_lightning.core.errors import excerpt


@dataclass(frozen=True)
class Identity:
    """All that decides what a detector scores. Two that are equal give an image one score, up to rounding.

    Args:
        detector: the class.
        weights: hash of what was trained, "" where nothing is.
        settings: hash of the settings.
        backbone: name of the frozen CLIP.
        fingerprint: hash of its weights.
        encoder: what is computed with them, in words.
        precision: of the image encoder.
        preprocessing: version of the step from files to what the encoder sees.
        image_size: side of images in pixels.
        draws: "fixed" or by "image"; see `Detector.outcomes`.
        category: what the detector was told is seen.
    """

    detector: str
    weights: str
    settings: str
    backbone: str
    fingerprint: str
    encoder: str
    precision: str
    preprocessing: int
    image_size: int
    draws: str
    category: str | None = None

    def differences(self, other: "Identity") -> list[str]:
        """What is other, as "image_size 518 instead of 336": a value here, and there."""
        return [
            f"{part.name.replace('_', ' ')} {excerpt(mine, 40)} instead of {excerpt(theirs, 40)}"
            for part in fields(self)
            if part.name != "backbone" and (mine := getattr(self, part.name)) != (theirs := getattr(other, part.name))
        ]


@runtime_checkable
class Scored(Protocol):
    """What a calibration needs of a prediction."""

    @property
    def score(self) -> float:
        """Of the image."""

    @property
    def peak(self) -> float:
        """The highest value of its map."""

    @property
    def content(self) -> str:
        """The name of its pixels, equal for equal images; "" for an image that is none's equal."""

    @property
    def feature(self) -> Float[np.ndarray, " d"] | None:
        """Its global feature, None for a detector without."""


class Seen(NamedTuple):
    """What is kept of an image."""

    score: float
    peak: float
    feature: Float[np.ndarray, " d"] | None


def distinct(given: Iterable[Scored]) -> tuple[dict[str, Seen], int]:
    """What is kept of images by their content, in an order that says nothing of them, and how many came again."""
    kept: dict[str, Seen] = {}
    count = 0
    for one in given:
        count += 1
        new = Seen(one.score, one.peak, one.feature)
        name = one.content or f"{count}"
        old = kept.get(name, new)  # equal pixels after resizing have one score, but maybe maps of two sizes
        kept[name] = max(old, new, key=lambda seen: seen[:2])
    return {name: kept[name] for name in sorted(kept)}, count - len(kept)
