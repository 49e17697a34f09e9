"""What normal images of a process scored, kept in a file, and the thresholds and p-values that follow from it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError

from cops_lightning.calibration import conformal
from cops_lightning.calibration.checks import Use, fault
from cops_lightning.calibration.drift import FeatureReference
from cops_lightning.calibration.identity import Identity, Scored, distinct
from cops_lightning.calibration.labelled import Aim, Labelled, Weighing
from cops_lightning.core.errors import CalibrationError, excerpt, quoted, told
from cops_lightning.core.files import read_whole, writing

FORMAT = "cops-calibration 1"


@dataclass(frozen=True)
class Calibration:
    """Scores of n normal images, and what follows from them for any further image of the same process.

    If that image is normal and exchangeable with those n, it is called anomalous with a probability of at most `level`,
    and it shows a region with a probability of at most `level`. Both hold over the choice of the n images together with
    the further one; see `conformal.false_alarms` for how much one calibration may depart from it.

    Args:
        identity: of the detector that scored.
        level: the false-alarm rate that is asked for, in (0, 1).
        scores: of the normal images, ascending.
        peaks: the highest value of each of their maps, ascending.
        repeated: images left out because their pixels are those of another one.
        anomalous: scores of images known to be anomalous, ascending.
        use: what the threshold of images is for: the level, or with anomalous images a recall, F1 or a cost.
        weighing: what these are to achieve.
        features: of normal images, to notice a drift; None where there are too few, or the detector has none.

    Raises CalibrationError for values that are not finite or out of order.
    """

    identity: Identity
    level: float
    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    repeated: int = 0
    anomalous: tuple[float, ...] = ()
    use: Use = "level"
    weighing: Weighing = field(default_factory=Weighing)
    features: FeatureReference | None = None

    def __post_init__(self) -> None:
        if wrong := fault(self):
            raise CalibrationError(f"{wrong} Calibrate with other images or settings.")

    # ---- from scores

    @classmethod
    def of(
        cls,
        identity: Identity,
        normal: Iterable[Scored],
        level: float = 0.05,
        *,
        anomalous: Iterable[Scored] = (),
        use: Use = "level",
        weighing: Weighing | None = None,
    ) -> "Calibration":
        """From predictions of normal images, and of anomalous ones where there are some, in any order.

        `identity` is `Detector.identity` of the detector that predicted. Images of equal pixels count once. Raises
        CalibrationError where there is no normal image, or the same one is said to be anomalous too.
        """
        (kept, repeated), (other, also) = distinct(normal), distinct(anomalous)
        if both := kept.keys() & other.keys():
            raise CalibrationError(
                f"{len(both)} of the images are among the normal and among the anomalous ones. Say which they are."
            )
        features = [seen.feature for seen in kept.values()]
        known = [feature for feature in features if feature is not None]
        return cls(
            identity,
            level,
            tuple(sorted(seen.score for seen in kept.values())),
            tuple(sorted(seen.peak for seen in kept.values())),
            repeated + also,
            tuple(sorted(seen.score for seen in other.values())),
            use,
            weighing or Weighing(),
            FeatureReference.fit(np.stack(known)) if known and len(known) == len(features) else None,
        )

    def at(self, level: float) -> "Calibration":
        """The same images at another level."""
        return replace(self, level=level, use="level")

    # ---- what follows

    @property
    def n(self) -> int:
        """How many normal images count."""
        return len(self.scores)

    @property
    def needed(self) -> int:
        """How many normal images the level needs."""
        return conformal.needed(self.level)

    @cached_property
    def threshold(self) -> float | None:
        """Scores above it are anomalous; None where there are too few images for what is asked."""
        return self.level_threshold if self.use == "level" else self.threshold_for(self.use)

    @cached_property
    def level_threshold(self) -> float | None:
        """The threshold for the level, whatever is in use; None where there are too few images."""
        return conformal.threshold(self._scores, self.level)

    @cached_property
    def map_threshold(self) -> float | None:
        """Pixels above it belong to regions; None where there are too few images."""
        return conformal.threshold(self._peaks, self.level)

    def threshold_for(self, aim: Aim) -> float | None:
        """The threshold for an aim; None where there are too few anomalous images for it."""
        return None if self.labelled is None else self.labelled.threshold(aim)

    @cached_property
    def labelled(self) -> Labelled | None:
        """Normal and anomalous scores; None without anomalous images."""
        return Labelled(self._scores, np.array(self.anomalous), self.weighing) if self.anomalous else None

    def p_value(self, score: float) -> float:
        """The p-value of an image: at most `level` exactly if its score is above the threshold of the level."""
        return float(conformal.p_values(self._scores, np.array(score)))

    def region_p_value(self, peak: float) -> float:
        """The p-value of a region, by the highest value of the map in it: a normal image shows one as high anywhere
        with at most this probability.
        """
        return float(conformal.p_values(self._peaks, np.array(peak)))

    def false_alarms(self) -> tuple[float, float, float] | None:
        """The false-alarm rate to expect at the level: its mean, and bounds for this calibration; None without one."""
        return conformal.false_alarms(self.n, self.level)

    @property
    def shortage(self) -> str | None:
        """Why there is no threshold, in a sentence; None where there is one."""
        if self.n < self.needed:
            return (
                f"{self.n} normal images are too few for a false-alarm rate of {100 * self.level:g} %: it needs "
                f"{self.needed}. No threshold is set."
            )
        if self.threshold is None and self.labelled is not None:
            return (
                f"{len(self.anomalous)} anomalous images are too few for a recall of {100 * self.weighing.recall:g} %: "
                f"it needs {self.labelled.needed}. No threshold is set."
            )
        return None

    @cached_property
    def _scores(self) -> Float[np.ndarray, " n"]:
        return np.array(self.scores)

    @cached_property
    def _peaks(self) -> Float[np.ndarray, " n"]:
        return np.array(self.peaks)

    def require(self, identity: Identity, source: str = "The calibration") -> None:
        """Raise CalibrationError unless it was made by this very detector, naming what is other."""
        if other := self.identity.differences(identity):
            raise CalibrationError(
                f"{source} was made by another detector than this one: {', '.join(other)}. Use the one that it was "
                "made by, or calibrate this one by cops-calibrate."
            )

    # ---- files

    def write(self, path: Path) -> None:
        """Write it as JSON, with the thresholds for other programs, and a checksum."""
        content = {"format": FORMAT, **asdict(self), "thresholds": self._thresholds()}
        with writing(path) as file:
            json.dump({**content, "sha256": _checksum(content)}, file, indent=1, allow_nan=False)
            file.write("\n")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """What `write` wrote. Raises CalibrationError for anything else, in a sentence that says what is wrong."""
        way_out = "Make it anew by cops-calibrate."
        with told(CalibrationError, f"{path} cannot be read", way_out):
            content = json.loads(read_whole(path).decode(), parse_constant=_no_number)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            named = quoted(content.get("format") if isinstance(content, dict) else content)
            raise CalibrationError(f"{path} is no calibration: its format is {named}; expected {FORMAT!r}. {way_out}")
        said = content.pop("sha256", None)
        with told(CalibrationError, f"{path} cannot be read", way_out):
            changed = said != _checksum(content)
        if changed:
            raise CalibrationError(f"{path} is not what was written: its checksum differs. {way_out}")
        thresholds = content.pop("thresholds", None)
        del content["format"]
        try:
            found = TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            where = ".".join(map(str, wrong["loc"])) or "all of it"
            raise CalibrationError(
                f"{path} is no calibration: {excerpt(where, 80)} is {quoted(wrong['input'])} "
                f"({excerpt(wrong['msg'])}). {way_out}"
            ) from None
        except CalibrationError as error:
            raise CalibrationError(f"{path} is no calibration: {error}") from None
        if thresholds != found._thresholds() or content != json.loads(json.dumps(asdict(found))):
            raise CalibrationError(
                f"{path} is no calibration of this version: it holds thresholds that do not follow from its scores, or "
                f"something unknown. {way_out}"
            )
        return found

    @classmethod
    def given(cls, calibration: "Calibration | str | Path") -> "Calibration":
        """A calibration itself, or that of a file."""
        return calibration if isinstance(calibration, Calibration) else cls.read(Path(calibration))

    def _thresholds(self) -> dict[str, float | None]:
        return {"image": self.threshold, "region": self.map_threshold}


def looks_like_calibration(start: bytes) -> bool:
    """Whether a file that begins so is a calibration, of whatever version, whole or damaged."""
    return b'"format": "cops-calibration' in start


def _no_number(name: str) -> float:
    raise ValueError(f"it holds {name}")


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of plain content, however it is laid out in a file."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
