"""Detectors, and what they say of an image as plain values that a page can show."""

import io
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image

from cops_lightning.app.demonstration import is_demonstration
from cops_lightning.calibration.calibration import Calibration
from cops_lightning.core.names import printable
from cops_lightning.core.seeding import FIXED
from cops_lightning.data.dataset import preprocess
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.data.stream import Unreadable
from cops_lightning.models.cops import CoPS
from cops_lightning.models.detector import Detector
from cops_lightning.models.prediction import Prediction, Rule
from cops_lightning.report.figures import COLORS, painted_map

Values = Mapping[str, Any]
SMALL_MAP = 256  # side of a map of what the method looked at, in pixels


@dataclass
class Judge:
    """A detector that several threads ask, one at a time.

    Args:
        name: what the page calls it.
        detector: itself.
        calibration: the one that it was started with; None without.
        method: what its checkpoint calls the method; "" where that says nothing: then the detector's class is named.
    """

    name: str
    detector: Detector
    calibration: Calibration | None = None
    method: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def predictions(self, pictures: Iterable[Picture]) -> list[Prediction | Unreadable]:
        """What the detector says of pictures, without a rule. An upload is mostly one image: a batch would wait."""
        with self.lock:
            return list(self.detector.outcomes(pictures, batch_size=1, workers=0))

    def scored(self, pictures: Iterable[Picture]) -> list[Prediction]:
        """Those that can be read."""
        return [ruled(one, None) for one in self.predictions(pictures) if isinstance(one, Prediction)]

    def calibrated(self, normal: Iterable[Prediction], level: float) -> Calibration:
        """The calibration that normal images give. Raises CalibrationError where there are none."""
        return Calibration.of(self.detector.identity(), normal, level)

    def about(self) -> Values:
        """Name, method and backbone."""
        record = self.detector.backbone.record
        return {
            "name": self.name,
            "method": printable(self.method) or type(self.detector).__name__,
            "backbone": record.name,
            "image_size": self.detector.image_size,
            "demonstration": is_demonstration(self.detector),
            "parts": isinstance(self.detector, CoPS),
        }

    def parts(self, picture: Picture) -> list["Part"]:
        """What CoPS computes on the way to its score; nothing of other detectors."""
        if not isinstance(self.detector, CoPS):
            return []
        with self.lock:
            return _parts(self.detector, picture)


@dataclass(frozen=True)
class Part:
    """A step of the method: a number for the image, or a map over its patches; the colours span `low` to `high`."""

    key: str
    title: str
    meaning: str
    value: float | None = None
    map: Float[np.ndarray, "g g"] | None = None
    low: float = 0.0
    high: float = 1.0

    def png(self) -> bytes:
        """The map in colours, every patch a square."""
        assert self.map is not None
        share = (self.map - self.low) / ((self.high - self.low) or 1.0)
        pixels = colormaps[COLORS](np.clip(share, 0, 1), bytes=True)[..., :3]
        side = max(1, SMALL_MAP // len(pixels)) * len(pixels)
        return png(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST))


def verdict(prediction: Prediction, calibration: Calibration | None) -> Values:
    """Score, p-value, threshold, label, and why, in a sentence; without what takes a map of full size."""
    return {
        "score": prediction.score,
        "p_value": prediction.p_value,
        "threshold": prediction.threshold,
        "label": prediction.label,
        "why": why(prediction, calibration),
        "map_threshold": prediction.rule.map_threshold,
    }


def why(prediction: Prediction, calibration: Calibration | None) -> str:
    """What the verdict rests on, or why there is none."""
    if calibration is None:
        return "No verdict: no normal images of this process are known. Add some under Calibrate."
    if prediction.threshold is None:
        return f"No verdict: {calibration.shortage or 'the calibration sets no threshold.'}"
    side = "above" if prediction.label == "anomalous" else "not above"
    as_high = sum(score >= prediction.score for score in calibration.scores)
    said = f"{as_high or 'none'} of the {calibration.n} normal images of the calibration"
    return (
        f"The score {prediction.score:.3f} is {side} the threshold {prediction.threshold:.3f}: {said} "
        f"{'scores' if as_high == 1 else 'score' if as_high else 'scores'} as high (p = {prediction.p_value:.2g})."
    )


def ruled(prediction: Prediction, calibration: Calibration | None) -> Prediction:
    """The same prediction under the rule of a calibration; nothing that is as large as the image is kept of it."""
    rule = Rule() if calibration is None else Rule.of(calibration)
    kept = prediction
    return Prediction(kept.picture, kept.score, kept.patches, kept.expand, rule, kept.size, kept.content, kept.feature)


def overlay(prediction: Prediction, size: tuple[int, int]) -> bytes:
    """The map in colours as a PNG of this size, the more opaque the higher: drawn over the image at an opacity of s,
    it is the image's `heat_map(s)`.
    """
    stretched = cv2.resize(prediction.small_map, size, interpolation=cv2.INTER_LINEAR)
    painted, share = painted_map(stretched, prediction.color_limit)
    return png(Image.fromarray(np.dstack([painted, 255 * share]).round().astype(np.uint8)))


def colors() -> bytes:
    """The colour scale, from low to high, a pixel high."""
    return png(Image.fromarray(colormaps[COLORS](np.arange(256)[None], bytes=True)[..., :3]))


def png(image: Image.Image) -> bytes:
    """The bytes of an image in PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@torch.no_grad()
def _parts(model: CoPS, picture: Picture) -> list[Part]:
    features = model.encode(preprocess(picture.open(), model.image_size)[None].to(model.device))
    latents = None if model.classes is None else model.draw_latents([FIXED], model.device)
    found = model.reasons(features, latents)
    beta = model.image_share
    grid = round(found.local.shape[1] ** 0.5)

    def part(key: str, title: str, meaning: str, values: torch.Tensor, low: float, high: float) -> Part:
        return Part(key, title, meaning, None, values[0].float().cpu().numpy().reshape(grid, grid), low, high)

    whole = float(found.image[0])
    parts = [
        Part("global", "Whole image", f"How anomalous the whole image is; {beta:.0%} of the score.", whole),
        Part(
            "peak",
            "Highest patch",
            f"The highest of the weighted patches; {1 - beta:.0%} of the score.",
            float(found.patch.amax()),
        ),
        part("local", "Patches by prompt", "How well each patch agrees with the anomalous prompt.", found.local, 0, 1),
    ]
    if found.distances is not None:
        normal, anomalous = found.distances
        high = float(max(normal.max(), anomalous.max()))
        parts += [
            part(
                "normal",
                "Distance from normal",
                "From the nearest normal prototype: far is suspicious.",
                normal,
                0,
                high,
            ),
            part(
                "anomalous",
                "Distance from anomalous",
                "From the nearest anomalous prototype: near is suspicious.",
                anomalous,
                0,
                high,
            ),
        ]
    if found.weights is not None:
        parts += [
            part("weights", "Spatial weights", "What the patches are multiplied by.", found.weights, 0, 1),
            part("patch", "Weighted patches", "Patches by prompt times weights: the map.", found.patch, 0, 1),
        ]
    return parts
