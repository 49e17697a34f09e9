"""`cops-calibrate`: from normal images of one's own process to thresholds and p-values with a guarantee."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Interval

from cops_lightning.cli.words import DetectorSettings, WordsCommand, detector_of, exported_of
from cops_lightning.core.choices import Precision
from cops_lightning.core.errors import ConfigError, described
from cops_lightning.core.files import replacing
from cops_lightning.core.places import require_apart, require_no_run, require_own
from cops_lightning.core.progress import counted_progress
from cops_lightning.core.reporting import say, warn

if TYPE_CHECKING:
    from cops_lightning.calibration import Calibration
    from cops_lightning.data.readers.pictures import Picture
    from cops_lightning.models.prediction import Prediction
    from cops_lightning.models.predictor import Predictor

MORE = """\
Then  cops-predict photos checkpoint=... calibration=calibration.json  calls at most 5 % of normal images anomalous, and
gives every image a p-value. A histogram of the scores lies beside the file, as .svg. See docs/calibrate.md.

examples:
  cops-calibrate checkpoint=last.ckpt normal=photos/good
  cops-calibrate checkpoint=last.ckpt normal=photos/good level=0.01 out=strict.json
  cops-calibrate checkpoint=last.ckpt normal=photos/good anomalous=photos/bad threshold=recall recall=0.95
  cops-calibrate checkpoint=exported.onnx normal=photos/good
  cops-calibrate checkpoint=last.ckpt dataset=/data/parts threshold=cost miss_cost=50 anomalous_share=0.001"""
SHOWN = 5  # unreadable images that are named


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(DetectorSettings):
    """Score normal images, so that a detector calls no more of them anomalous than the level says.

    Args:
        normal: normal images: a folder, a file, a pattern, or a .txt that names one in a line.
        dataset: in place of normal and anomalous, a labelled dataset, by name or path.
        anomalous: images known to be anomalous, for thresholds that aim at a recall, F1 or a cost.
        out: the file to write.
        level: share of normal images that may be called anomalous, and that may show a region: 0.05 is 5 %.
        threshold: what decides on an image: the level, or with anomalous images a recall, the best F1, the least cost.
        recall: share of anomalous images to find: 0.95 is 95 %.
        false_alarm_cost: what a false alarm costs.
        miss_cost: what a missed anomalous image costs.
        anomalous_share: share of anomalous images in production, for F1 and cost; default: that of the labelled ones.
        category: what is seen, for detectors whose prompts name it.
        precision: of the image encoder; default: what the backbone says.
        batch_size: images that are scored together; default: 1 on a CPU, 8 elsewhere.
        workers: threads that decode images.
    """

    normal: str | None = None
    dataset: str | None = None
    anomalous: str | None = None
    out: Path = Path("calibration.json")
    level: Annotated[float, Interval(ge=1e-9, lt=1)] = 0.05
    threshold: Literal["level", "recall", "f1", "cost"] = "level"
    recall: Annotated[float, Interval(ge=1e-9, le=1 - 1e-9)] = 0.95
    false_alarm_cost: Annotated[float, Interval(gt=0)] = 1.0
    miss_cost: Annotated[float, Interval(gt=0)] = 10.0
    anomalous_share: Annotated[float, Interval(gt=0, lt=1)] | None = None
    category: str | None = None
    precision: Precision | None = None
    batch_size: Annotated[int, Ge(1)] | None = None
    workers: Annotated[int, Ge(0)] = 2


COMMAND = WordsCommand("cops-calibrate", CalibrateSettings, more=MORE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    return COMMAND.main(argv, _calibrate, "interrupted: nothing was written.")


def _calibrate(_words: list[str], settings: CalibrateSettings) -> int:
    # Imported where used: they take seconds, and --help needs none of them.
    from cops_lightning.calibration import Calibration, Weighing
    from cops_lightning.calibration.summary import summary

    picture = settings.out.with_suffix(".svg")
    _require_place(settings, picture)
    normal, anomalous = _pictures(settings)
    if settings.threshold != "level" and not anomalous:
        raise ConfigError(f"threshold={settings.threshold} needs anomalous images. Add anomalous=FOLDER.")
    detector = _detector(settings)
    calibration = Calibration.of(
        detector.identity(category=settings.category),
        _scored(detector, normal, "normal images", settings),
        settings.level,
        anomalous=_scored(detector, anomalous, "anomalous images", settings),
        use=settings.threshold,
        weighing=Weighing(settings.recall, settings.false_alarm_cost, settings.miss_cost, settings.anomalous_share),
    )
    calibration.write(settings.out)
    for line in summary(calibration):
        say(line)
    say(f"{settings.out} is written.")
    try:  # decoration, which costs no number
        _draw(calibration, picture)
        say(f"{picture} is written.")
    except Exception as error:
        warn(f"{picture} is not drawn ({described(error)}); the calibration is whole.", error)
    return 0


def _draw(calibration: "Calibration", path: Path) -> None:
    """The histograms of scores and of highest values, with thresholds."""
    from cops_lightning.report.svg import score_histograms

    drawn = score_histograms(
        [
            ("score of an image", calibration.scores, calibration.anomalous, calibration.threshold),
            ("highest value of its map", calibration.peaks, (), calibration.map_threshold),
        ]
    )
    with replacing(path) as partial:
        partial.write_bytes(drawn)


def _require_place(settings: CalibrateSettings, picture: Path) -> None:
    """Raise CopsError where the file, or the histogram beside it, may not be written."""
    from cops_lightning.calibration.calibration import looks_like_calibration
    from cops_lightning.data.readers.pictures import folders_read
    from cops_lightning.data.readers.resolve import places_of

    out = settings.out
    if out.suffix == picture.suffix:
        raise ConfigError(f"out is {out}, whose histogram would have the same name. End it in .json.")
    require_no_run("out", out)
    given = [source for source in (settings.normal, settings.anomalous) if source is not None]
    places = [] if settings.dataset is None else places_of(settings.dataset)
    require_apart("out", out, [*(folder for source in given for folder in folders_read(source)), *places])
    require_own("out", out, "calibration", looks_like_calibration)
    # A histogram is written after its calibration: without one it is somebody else's drawing.
    require_own("the histogram beside out", picture, "histogram of a calibration", lambda _: out.exists())


def _detector(settings: CalibrateSettings) -> "Predictor":
    exported = exported_of(settings)
    if exported and settings.precision is not None:
        raise ConfigError(f"{settings.checkpoint} is an exported file, which has a precision. Leave out precision=.")
    return exported or detector_of(settings, precision=settings.precision)


def _pictures(settings: CalibrateSettings) -> "tuple[list[Picture], list[Picture]]":
    """The normal and the anomalous images."""
    from cops_lightning.data.readers.pictures import pictures
    from cops_lightning.data.readers.resolve import load_index

    if (settings.normal is None) == (settings.dataset is None):
        raise ConfigError("Give normal=FOLDER, with anomalous=FOLDER if there is one, or dataset=NAME; one of them.")
    if settings.dataset is None:
        others = [] if settings.anomalous is None else list(pictures(settings.anomalous))
        return list(pictures(settings.normal or "")), others
    if settings.anomalous is not None:
        raise ConfigError("dataset says which images are anomalous. Leave out anomalous.")
    index = load_index(settings.dataset)
    samples = [*index.train, *index.test]
    by_label = {label: [sample.image for sample in samples if sample.label == label] for label in (0, 1)}
    if not by_label[0]:
        raise ConfigError(f"{settings.dataset} has no normal image among {len(samples)}. Give normal=FOLDER.")
    return list(pictures(by_label[0])), list(pictures(by_label[1]))


def _scored(
    detector: "Predictor", found: "list[Picture]", what: str, settings: CalibrateSettings
) -> "Iterator[Prediction]":
    """Predictions one at a time; images that cannot be read are left out, with a warning."""
    from cops_lightning.data.stream import Unreadable

    unreadable = []
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "workers": settings.workers,
        "category": settings.category,
    }
    with counted_progress(bool(found)) as progress:
        task = progress.add_task(what, total=len(found))
        for outcome in detector.outcomes(found, **options):
            if isinstance(outcome, Unreadable):
                unreadable.append(outcome.reason)
            else:
                yield outcome
            progress.advance(task)
    for reason in unreadable[:SHOWN]:
        warn(f"left out: {reason}")
    if len(unreadable) > SHOWN:
        warn(f"{len(unreadable)} of {len(found)} {what} are left out, as they cannot be read.")


if __name__ == "__main__":
    sys.exit(main())
