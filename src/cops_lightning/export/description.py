"""What an exported file says about itself: one JSON text in the metadata that every format has."""

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen
from pydantic import TypeAdapter, ValidationError

from cops_lightning.calibration import Calibration, Identity
from cops_lightning.core.errors import CalibrationError, CopsError, excerpt, quoted
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD
from cops_lightning.models.prediction import Rule

# The entry of an ONNX file's metadata_props, a .pt2's extra files and an OpenVINO model's rt_info.
KEY = "cops_lightning"
LONGEST = 1 << 26  # characters of the text

Number = Literal["fp32", "int8"]


class ExportError(CopsError):
    """An exported file that is damaged, or says another thing than the detector that it was made of."""


@dataclass(frozen=True)
class Description:
    """What an exported file says about itself.

    Args:
        identity: all that decides what its detector scores.
        image_size: side of the images that the graph takes, in pixels.
        precision: of the weights in large products.
        threshold: an image with a score above it is anomalous; None where none was chosen.
        map_threshold: pixels of the map above it belong to regions.
        calibration: what both follow from, and p-values; None without one.
        mean: what the graph subtracts from values in [0, 1], per channel.
        std: what it divides by then.
        library: version of the library that wrote the file.
    """

    identity: Identity
    image_size: Annotated[int, Ge(1), Le(8192)]
    precision: Number = "fp32"
    threshold: float | None = None
    map_threshold: float = 0.5
    calibration: Calibration | None = None
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    library: Annotated[str, MaxLen(100)] = ""

    def calibrated(self, calibration: Calibration) -> "Description":
        """The same with a calibration.

        Raises CalibrationError for that of another detector.
        """
        calibration.require(self.identity)
        cut = calibration.map_threshold
        return replace(
            self,
            threshold=calibration.threshold,
            map_threshold=self.map_threshold if cut is None else cut,
            calibration=calibration,
        )

    def verdicts(self) -> Rule | Calibration:
        """What makes a verdict of a score."""
        return self.calibration or Rule(self.threshold, self.map_threshold)

    def text(self) -> str:
        """As a file holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: Any, where: str) -> "Description":
        """From the text in a file. Raises ExportError where it is missing, or is not what `text` writes."""
        way_out = "Expected a file that cops-export wrote; export the checkpoint anew."
        if not isinstance(text, str) or not text:
            raise ExportError(f"{where} does not say what detector it is. {way_out}")
        if len(text) > LONGEST:
            raise ExportError(f"{where} describes itself in {len(text)} characters. {way_out}")
        try:
            found: Description = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            of = ".".join(map(str, wrong["loc"])) or "description"
            raise ExportError(
                f"{where} has {quoted(wrong['input'])} as its {excerpt(of, 80)} ({excerpt(wrong['msg'])}). {way_out}"
            ) from None
        except CalibrationError as error:
            raise ExportError(f"{where} holds no calibration: {error}") from None
        numbers = (*found.mean, *found.std, found.map_threshold, found.threshold or 0.0)
        if not all(map(math.isfinite, numbers)):
            raise ExportError(f"{where} describes itself by numbers that are not finite. {way_out}")
        return found
