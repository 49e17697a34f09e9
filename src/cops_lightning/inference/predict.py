"""Images through a detector into a folder of predictions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cops_lightning.core.errors import CopsError, DatasetError
from cops_lightning.core.files import replacing
from cops_lightning.core.progress import counted_progress
from cops_lightning.data.readers.pictures import Picture, pictures
from cops_lightning.data.stream import Unreadable
from cops_lightning.inference.folder import HEATMAPS, MASKS, PredictionFolder, Tally
from cops_lightning.inference.rows import Row, contents_in, row_of
from cops_lightning.models.prediction import Prediction
from cops_lightning.models.predictor import Predictor

AT_ONCE = 500  # images that are done and are looked at together


@dataclass(frozen=True)
class Wanted:
    """What is written of an image beside its score.

    Args:
        regions: boxes of what is anomalous.
        heatmaps: the image with its anomaly map laid over it.
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


def predict_into(
    folder: PredictionFolder,
    detector: Predictor,
    sources: Iterable[Picture],
    wanted: Wanted,
    *,
    shown: bool = True,
    **options: Any,
) -> Tally:
    """Predict what `folder` lacks of `sources`, and add it, row by row; `options` are those of `Predictor.outcomes`.

    `sources` are iterated over twice: to count them, and to read them. An image that cannot be read is a row with its
    reason. Raises CopsError where the images that are done are others than those that come first.
    """
    return write_rows(
        folder, sources, lambda left: outcome_rows(folder, detector, left, wanted, **options), shown, wanted
    )


def write_rows(
    folder: PredictionFolder,
    sources: Iterable[Picture],
    rows: Callable[[Iterator[Picture]], Iterator[Row]],
    shown: bool,
    wanted: Wanted,
) -> Tally:
    """Add the rows that `rows` gives of the images that are left, in their order."""
    total = sum(1 for _ in sources)
    with counted_progress(shown) as progress:
        task = progress.add_task("predicting", total=total, completed=folder.tally.images)
        for row in rows(left_of(folder, iter(sources))):
            folder.add(row)
            progress.advance(task)
    if wanted.regions:
        folder.write_regions()
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


def outcome_rows(
    folder: PredictionFolder,
    detector: Predictor,
    left: Iterator[Picture],
    wanted: Wanted,
    **options: Any,
) -> Iterator[Row]:
    """Rows of images, whose heat maps and masks are written before."""
    number = folder.tally.images
    for outcome in detector.outcomes(left, **options):
        number += 1
        try:
            yield _written(folder, outcome, number, wanted)
        except DatasetError as error:  # it could be read a moment ago
            yield row_of(Unreadable(outcome.picture, str(error)))


def _written(folder: PredictionFolder, found: Prediction | Unreadable, number: int, wanted: Wanted) -> Row:
    row = row_of(found, wanted.regions)
    if isinstance(found, Prediction):
        if wanted.heatmaps:
            row["heatmap"] = folder.file_of(HEATMAPS, number, found.name)
            found.save_heatmap(folder.root / row["heatmap"])
        if wanted.masks:
            row["mask"] = folder.file_of(MASKS, number, found.name)
            _save_mask(found.mask, folder.root / row["mask"])
    return row


def _save_mask(mask: np.ndarray, path: Path) -> None:
    with replacing(path) as partial:
        Image.fromarray(mask.astype(np.uint8) * 255).save(partial, format="PNG")
