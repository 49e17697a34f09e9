"""What predicts on images of any source: a detector, or the file that one was exported to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from cops_lightning.calibration import Calibration, DriftWatch, Identity
from cops_lightning.core.choices import require_choice
from cops_lightning.core.errors import ConfigError
from cops_lightning.data.readers.images import ReadingError
from cops_lightning.data.readers.pictures import Source
from cops_lightning.data.stream import Decoded, Unreadable
from cops_lightning.models.calibrated import watched
from cops_lightning.models.prediction import Prediction, Rule

Draws = Literal["fixed", "image"]


class Predictor(ABC):
    """Predictions one at a time, and the rule or calibration that makes verdicts of their scores."""

    def predict(
        self,
        source: Source,
        *,
        threshold: float | None = None,
        map_threshold: float | None = None,
        calibration: Calibration | str | Path | None = None,
        rule: Rule | None = None,
        draws: Draws = "fixed",
        batch_size: int | None = None,
        workers: int = 2,
        category: str | None = None,
    ) -> Iterator[Prediction]:
        """Scores and maps of images, one at a time; images are read as they are needed.

        `source` is a file, a folder, a pattern, a list of files, an array, a Pillow image, or several of these; see
        `data.readers.pictures`. The other arguments are those of `outcomes`, which goes on where an image cannot be
        read. Here that ends the predictions: raises ReadingError at the first such image, and DatasetError, of which
        ReadingError is one, where there is no image; otherwise as `outcomes`. All are a CopsError.
        """
        outcomes = self.outcomes(
            source,
            threshold=threshold,
            map_threshold=map_threshold,
            calibration=calibration,
            rule=rule,
            draws=draws,
            batch_size=batch_size,
            workers=workers,
            category=category,
        )
        return _readable(outcomes)

    def outcomes(
        self,
        source: Source,
        *,
        threshold: float | None = None,
        map_threshold: float | None = None,
        calibration: Calibration | str | Path | None = None,
        rule: Rule | None = None,
        draws: Draws = "fixed",
        batch_size: int | None = None,
        workers: int = 2,
        category: str | None = None,
    ) -> Iterator[Prediction | Unreadable]:
        """`predict` for streams in which an image that cannot be read is one result among others, an `Unreadable`.

        Args:
            source: see `predict`.
            threshold: an image with a score above it is anomalous; default: what an exported file holds, else no
                verdict.
            map_threshold: pixels above it belong to regions; default: what an exported file holds, else 0.5.
            calibration: in place of thresholds, that of normal images, or a file of cops-calibrate. A stream that moves
                away from its images is warned of, once, where the detector's features are at hand.
            rule: in place of all three, one that was made already.
            draws: what is drawn at random is "fixed", the same for all images, so that two photographs of one part
                have like scores; or by "image", as in studies.
            batch_size: images that are scored together, of which the last bits of a score may depend; default: one on
                a CPU, eight elsewhere.
            workers: threads that decode images.
            category: what is seen, for detectors whose prompts name it.

        Raises DatasetError where there is no image, ConfigError where thresholds are given beside a rule or a
        calibration, be it that of an exported file, or both of these, and CalibrationError for a calibration that is
        damaged or another detector's.
        """
        require_choice("draws", draws, Draws)
        for name, number, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if number is not None and number < least:
                raise ConfigError(f"{name} is {number}; expected {least} or more.")
        ruled, watch = self.ruled(
            threshold=threshold,
            map_threshold=map_threshold,
            calibration=calibration,
            rule=rule,
            draws=draws,
            category=category,
        )
        outcomes = self._outcomes(source, ruled, draws, batch_size, workers, category)
        return outcomes if watch is None else watched(outcomes, watch)

    def ruled(
        self,
        *,
        threshold: float | None = None,
        map_threshold: float | None = None,
        calibration: Calibration | str | Path | None = None,
        rule: Rule | None = None,
        draws: Draws = "fixed",
        category: str | None = None,
    ) -> tuple[Rule, DriftWatch | None]:
        """The rule of `outcomes` with these options, and what watches for drift; raises as that does."""
        cuts: dict[str, Any] = {"threshold": threshold, "map_threshold": map_threshold}
        cuts = {key: value for key, value in cuts.items() if value is not None}
        for key in cuts:
            if rule is not None or calibration is not None:
                other = "a rule" if calibration is None else "a calibration"
                raise ConfigError(f"Both {key} and {other} are given, and either decides. Leave out one of them.")
        if cuts:
            own = self.own_verdicts()
            if isinstance(own, Calibration):
                raise ConfigError(
                    f"{next(iter(cuts))} is given, and the exported file holds a calibration; either decides. Leave "
                    f"out {' and '.join(cuts)}, or predict with the checkpoint in place of the file."
                )
            rule = replace(own, **cuts)
        if rule is not None and calibration is not None:
            raise ConfigError("Both a rule and a calibration are given, and either decides. Leave out one of them.")
        given = rule or calibration or self.own_verdicts()
        if isinstance(given, Rule):
            return given, None
        found = Calibration.given(given)
        found.require(self.identity(draws, category), "The calibration" if found is given else str(given))
        return Rule.of(found), None if found.features is None else DriftWatch(found.features)

    def own_verdicts(self) -> Rule | Calibration:
        """What makes a verdict where neither a rule nor a calibration is given: nothing."""
        return Rule()

    @abstractmethod
    def identity(self, draws: Draws = "fixed", category: str | None = None) -> Identity:
        """All that decides what `predict` scores with these options: what a calibration is for."""

    @abstractmethod
    def _outcomes(
        self, source: Source, rule: Rule, draws: Draws, batch_size: int | None, workers: int, category: str | None
    ) -> Iterator[Prediction | Unreadable]:
        """`outcomes` under one rule."""


def in_batches(
    found: Iterator[Decoded | Unreadable], size: int, predicted: Callable[[list[Decoded]], list[Prediction]]
) -> Iterator[Prediction | Unreadable]:
    """What is predicted of images, at most `size` at a time, in their order; those that cannot be read keep theirs."""
    while batch := list(islice(found, size)):
        read = [one for one in batch if isinstance(one, Decoded)]
        of_read = iter(predicted(read) if read else [])
        yield from (next(of_read) if isinstance(one, Decoded) else one for one in batch)


def _readable(outcomes: Iterator[Prediction | Unreadable]) -> Iterator[Prediction]:
    """Outcomes up to the first image that cannot be read, for which it raises ReadingError."""
    for outcome in outcomes:
        if isinstance(outcome, Unreadable):
            raise ReadingError(outcome.reason)
        yield outcome
