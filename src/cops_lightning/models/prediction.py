"""What a detector says of an image: score, verdict, map and regions, in the pixels of the image itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from cops_lightning.calibration import Calibration
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import replacing
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.data.readers.remote import Remote

Label = Literal["normal", "anomalous"]


@dataclass(frozen=True)
class Rule:
    """What makes a verdict of a score. Without a threshold there is none.

    Args:
        threshold: an image with a score above it is anomalous.
        map_threshold: pixels above it belong to regions.
        p_value: of a score, under the images of a calibration; None without one.
        region_p_value: of the peak of a region, likewise.
        distance: of an image's feature from those of a calibration by which drift is watched; None without one.
    """

    threshold: float | None = None
    map_threshold: float = 0.5
    p_value: Callable[[float], float] | None = None
    region_p_value: Callable[[float], float] | None = None
    distance: Callable[[Float[np.ndarray, " d"]], float] | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where a threshold is no number: every score would be called normal."""
        for name in ("threshold", "map_threshold"):
            if (value := getattr(self, name)) is not None and math.isnan(value):
                raise ConfigError(f"{name} is {value}; expected a number, or None for no verdict.")

    @classmethod
    def of(cls, calibration: Calibration) -> "Rule":
        """That of a calibration, which may have too few images for a threshold; regions are then above 0.5."""
        cut = calibration.map_threshold
        return cls(
            calibration.threshold,
            0.5 if cut is None else cut,
            calibration.p_value,
            calibration.region_p_value,
            None if calibration.features is None else calibration.features.distance_of,
        )


class Region(NamedTuple):
    """Connected pixels whose anomaly is above the threshold of regions.

    The box is in pixels of the original image, from `left` and `top` up to, not including, `right` and `bottom`; `area`
    counts pixels; `peak` is the highest value of the map in it, in [0, 1]; `p_value` says how often a normal image
    shows one as high anywhere, and is None without a calibration.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    peak: float
    p_value: float | None = None


class Prediction:
    """What a detector finds in an image. Score and map lie in [0, 1]; higher is more anomalous.

    Map and regions are computed when they are first asked for, as is the size where it is not known yet. It is no
    dataclass, since Lightning would look for tensors in one.

    Args:
        picture: where the image is from.
        score: of the image.
        patches: its patch scores, on the CPU.
        expand: makes the map of patch scores.
        rule: what makes a verdict of the score.
        size: width and height of the image as a viewer shows it, in pixels; None reads it from the file.
        content: a hash of what the encoder sees, equal for equal images of one detector; "" where nobody said. It takes
            0.06 ms at 518 px, and to compute it when it is asked for would keep those 3 MB with every prediction.
        feature: the encoder's global feature; None for a detector that reads none.
    """

    def __init__(
        self,
        picture: Picture,
        score: float,
        patches: Float[Tensor, " e"],
        expand: Callable[[Tensor], Tensor],
        rule: Rule | None = None,
        size: tuple[int, int] | None = None,
        content: str = "",
        feature: Float[np.ndarray, " d"] | None = None,
    ) -> None:
        self.picture, self.score, self.patches, self.expand = picture, score, patches, expand
        self.rule, self._size, self.content, self.feature = rule or Rule(), size, content, feature

    def __repr__(self) -> str:
        verdict = "" if self.label is None else f", {self.label}"
        return f"Prediction({self.name}, score {self.score:.4f}{verdict})"

    @property
    def path(self) -> Path | Remote | None:
        """The image's file, or its place in a store; None where it came as pixels."""
        return self.picture.path

    @property
    def name(self) -> str:
        """Where the image is from: its path, its page of a file in brackets, or its number among pixels in memory."""
        return self.picture.name

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the image as a viewer shows it, in pixels."""
        return self._size or self.picture.open().size

    @property
    def threshold(self) -> float | None:
        """The score above which an image is anomalous; None where there is no rule."""
        return self.rule.threshold

    @property
    def label(self) -> Label | None:
        """The verdict; None where there is no threshold."""
        if self.threshold is None:
            return None
        return "anomalous" if self.score > self.threshold else "normal"

    @cached_property
    def p_value(self) -> float | None:
        """How often a normal image of the calibration scores as high, or higher; None without a calibration."""
        return None if self.rule.p_value is None else self.rule.p_value(self.score)

    @cached_property
    def distance(self) -> float | None:
        """How far the feature lies from those of the calibration's images; None where drift is not watched."""
        if self.rule.distance is None or self.feature is None:
            return None
        return self.rule.distance(self.feature)

    @cached_property
    def small_map(self) -> Float[np.ndarray, "s s"]:
        """The anomaly map at the size that the detector sees, whatever the aspect of the image."""
        with torch.no_grad():
            found: np.ndarray = self.expand(self.patches[None])[0].float().cpu().numpy()
        return found

    @cached_property
    def map(self) -> Float[np.ndarray, "h w"]:
        """The anomaly map at the size of the image, pixel for pixel: stretched as the image was shrunk, bilinearly."""
        found: np.ndarray = cv2.resize(self.small_map, self.size, interpolation=cv2.INTER_LINEAR)
        return found

    @property
    def peak(self) -> float:
        """The highest value of the map."""
        return float(self.map.max())

    @cached_property
    def mask(self) -> np.ndarray:
        """Which pixels of the image are above the threshold of regions: booleans, (h, w)."""
        marked: np.ndarray = self.map > self.rule.map_threshold
        return marked

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Connected parts of the mask, corners included, the highest peak first."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(self.mask.astype(np.uint8), connectivity=8)
        peaks = ndimage.maximum(self.map, labels, np.arange(1, count)).tolist() if count > 1 else []
        of = self.rule.region_p_value
        found = [
            Region(int(left), int(top), int(left + width), int(top + height), int(area), peak, of and of(peak))
            for (left, top, width, height, area), peak in zip(stats[1:], peaks, strict=True)
        ]
        return tuple(sorted(found, key=lambda region: (-region.peak, region[:4])))

    @property
    def color_limit(self) -> float:
        """The value at the upper end of the colours: the threshold of regions lies in their middle, at most."""
        return min(1.0, 2 * self.rule.map_threshold) or 1.0

    def heat_map(self, strength: float = 0.6, frames: bool = False) -> Image.Image:
        """The image with its map laid over it, at the size of the image; `strength` from 0 to 1 is that of the map.

        Colours mean the same in all images under one rule, from 0 to `color_limit`. `frames` draws boxes of regions.
        """
        from cops_lightning.report.figures import OUTLINE, blend  # matplotlib takes half a second

        drawn = Image.fromarray(blend(np.asarray(self.picture.open()), self.map, self.color_limit, strength))
        if frames:
            pen, width = ImageDraw.Draw(drawn), max(1, round(max(self.size) / 250))
            for one in self.regions:
                pen.rectangle((one.left, one.top, one.right - 1, one.bottom - 1), outline=OUTLINE, width=width)
        return drawn

    def save_heatmap(self, path: str | Path, strength: float = 0.6, frames: bool = False) -> None:
        """Write `heat_map` to a file whose suffix names the format, such as .png or .jpg."""
        picture = self.heat_map(strength, frames)
        format = Image.registered_extensions().get(Path(path).suffix.lower(), "PNG")
        with replacing(Path(path)) as partial:
            picture.save(partial, format=format)
