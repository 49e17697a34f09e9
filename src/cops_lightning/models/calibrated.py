"""A detector and a calibration: whether they belong together, and whether what is seen has moved."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from cops_lightning.calibration import DriftWatch, Identity
from cops_lightning.clip.request import DEFAULT
from cops_lightning.core.hashes import settings_hash
from cops_lightning.core.reporting import warn
from cops_lightning.data.dataset import PREPROCESSING_VERSION
from cops_lightning.data.stream import Unreadable
from cops_lightning.models.prediction import Prediction

if TYPE_CHECKING:
    from cops_lightning.models.detector import Detector

OWN = "cops_lightning."
OF_TRAINING = "training"  # how names of settings begin that say where training is


def identity_of(detector: "Detector", draws: str, category: str | None) -> Identity:
    """All that decides what a detector scores; see `Identity`."""
    backbone = detector.backbone
    return Identity(
        type(detector).__name__,
        detector.trained_hash(),
        settings_hash(_plain(vars(detector))),
        backbone.record.name,
        backbone.record.fingerprint,
        backbone.image_encoder(getattr(detector, "request", DEFAULT)),
        backbone.precision,
        PREPROCESSING_VERSION,
        detector.image_size,
        draws,
        category,
    )


def watched(outcomes: Iterator[Prediction | Unreadable], watch: DriftWatch) -> Iterator[Prediction | Unreadable]:
    """The same outcomes, with a warning at the first window of images that has moved away from the calibration's."""
    for outcome in outcomes:
        if isinstance(outcome, Prediction) and outcome.distance is not None:
            say_drift(watch.add(outcome.name, outcome.distance))
        yield outcome
    say_drift(watch.close())


def say_drift(drift: object | None) -> None:
    """Warn of what a watch has found, where it has."""
    if drift is not None:
        warn(str(drift))


def _plain(value: Any) -> Any:
    """The settings within: plain values, those of dataclasses, and what plain objects of this library hold."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        shown = {str(name): one for name, one in value.items() if not str(name).startswith(("_", OF_TRAINING))}
        return {name: plain for name, one in shown.items() if (plain := _plain(one)) is not None}
    own = type(value).__module__.startswith(OWN) and hasattr(value, "__dict__")
    return None if isinstance(value, nn.Module | type) or not own else _plain(vars(value))
