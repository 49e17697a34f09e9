"""Images through a detector into a folder of predictions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from typing import Any

import numpy as np
from PIL import Image

from cops_lightning.calibration import DriftWatch
from cops_lightning.core.errors import CopsError, DatasetError
from cops_lightning.core.files import replacing
from cops_lightning.core.progress import counted_progress
from cops_lightning.data.readers.pictures import Picture, pictures
from cops_lightning.data.stream import Unreadable
from cops_lightning.inference.folder import HEATMAPS, MASKS, PredictionFolder, Tally
from cops_lightning.inference.rows import Row, contents_in, row_of
from cops_lightning.models.calibrated import say_drift
from cops_lightning.models.prediction import Prediction
from cops_lightning.models.predictor import Predictor

AT_ONCE = 500  # images that are done and are looked at together


@dataclass(frozen=True)
class Wanted:
    """What is written of an image beside its score.

    Args:
        regions: boxes of what is anomalous.
        heatmaps: the image with its anomaly map laid over it, and the boxes where they are wanted.
        masks: the pixels that belong to regions.
    """

    regions: bool = True
    heatmaps: bool = False
    masks: bool = False


@dataclass(frozen=True)
class Sources:
    """Where images come from; each iteration begins anew. Raises DatasetError at a source with no image."""

    given: Sequence[str]

    def __iter__(self) -> Iterator[Picture]:
        return chain.from_iterable(map(pictures, self.given))


@dataclass(frozen=True)
class Answer:
    """What is written of an image.

    Args:
        row: of the tables, without the places of pictures.
        heatmap: the content of its file, where one is wanted.
        mask: likewise.
    """

    row: Row
    heatmap: bytes | None = None
    mask: bytes | None = None


Answers = Callable[[Iterator[Picture]], Iterator[Answer]]


def predict_into(
    folder: PredictionFolder,
    detector: Predictor,
    sources: Iterable[Picture],
    wanted: Wanted,
    *,
    shown: bool = True,
    threshold: float | None = None,
    map_threshold: float | None = None,
    calibration: Any = None,
    rule: Any = None,
    **options: Any,
) -> Tally:
    """Predict what `folder` lacks of `sources`, and add it, row by row; `options` are those of `Predictor.outcomes`.

    `sources` are iterated over twice: to count them, and to read them. An image that cannot be read is a row with its
    reason. Raises CopsError where the images that are done are others than those that come first.
    """
    ruled, watch = detector.ruled(
        threshold=threshold,
        map_threshold=map_threshold,
        calibration=calibration,
        rule=rule,
        draws=options.get("draws", "fixed"),
        category=options.get("category"),
    )

    def answers(left: Iterator[Picture]) -> Iterator[Answer]:
        for outcome in detector.outcomes(left, rule=ruled, **options):
            yield answer_of(outcome, wanted)

    return write_answers(folder, sources, answers, wanted, shown, watch)


def write_answers(
    folder: PredictionFolder,
    sources: Iterable[Picture],
    answers: Answers,
    wanted: Wanted,
    shown: bool,
    watch: DriftWatch | None,
) -> Tally:
    """`predict_into` with the answers that `answers` gives of the images that are left, in their order.

    `watch` sees the rows that are there already too, so a drift does not depend on where a command was interrupted, and
    is said whenever its rows are used again.
    """
    total = sum(1 for _ in sources)
    left = left_of(folder, iter(sources))
    for row in folder.done():
        _see(watch, row)
    with counted_progress(shown) as progress:
        task = progress.add_task("predicting", total=total, completed=folder.tally.images)
        for answer in answers(left):
            _write(folder, answer)
            _see(watch, answer.row)
            progress.advance(task)
    if wanted.regions:
        folder.write_regions()
    if watch is not None:
        say_drift(watch.close())
        folder.write_drift(watch)
    return folder.tally


def left_of(folder: PredictionFolder, found: Iterator[Picture]) -> Iterator[Picture]:
    """The images that follow those that are done. Raises CopsError where the first ones are not those, by name and by
    content.
    """
    rows = enumerate(islice(folder.done(), folder.tally.images), 1)
    while some := list(islice(rows, AT_ONCE)):
        pictures = [_require_next(folder, number, row, next(found, None)) for number, row in some]
        for (_, row), content in zip(some, contents_in(pictures), strict=True):
            if row["content"] != content:
                raise CopsError(
                    f"{folder.root} holds a prediction of {row['name']}, which is another file now. Restore it, or "
                    "name another folder by out=."
                )
    return found


def _require_next(folder: PredictionFolder, number: int, row: Row, picture: Picture | None) -> Picture:
    if picture is None or picture.name != row["name"]:
        now = "nothing" if picture is None else picture.name
        raise CopsError(
            f"{folder.root} holds a prediction of {row['name']} as number {number}, where {now} comes now: the "
            "images have changed. Name another folder by out=."
        )
    return picture


def answer_of(found: Prediction | Unreadable, wanted: Wanted) -> Answer:
    """What is written of an image, with all of it computed."""
    row = row_of(found, wanted.regions)
    if isinstance(found, Unreadable):
        return Answer(row)
    try:
        heatmap = _png(found.heat_map(frames=wanted.regions)) if wanted.heatmaps else None
        mask = _png(Image.fromarray(found.mask.astype(np.uint8) * 255)) if wanted.masks else None
    except DatasetError as error:  # it could be read a moment ago
        return Answer(row_of(Unreadable(found.picture, str(error))))
    return Answer(row, heatmap, mask)


def _see(watch: DriftWatch | None, row: Row) -> None:
    if watch is not None and (distance := row.get("distance")) is not None:
        say_drift(watch.add(row["name"], distance))


def _write(folder: PredictionFolder, answer: Answer) -> None:
    """Add the row of an image, whose pictures are written before."""
    row, number = dict(answer.row), folder.tally.images + 1
    for column, kind, content in (("heatmap", HEATMAPS, answer.heatmap), ("mask", MASKS, answer.mask)):
        if content is not None:
            row[column] = folder.file_of(kind, number, row["name"])
            with replacing(folder.root / row[column]) as partial:
                partial.write_bytes(content)
    folder.add(row)


def _png(picture: Image.Image) -> bytes:
    content = BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()
