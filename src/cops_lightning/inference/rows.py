"""A prediction as a row of plain values: what predictions.jsonl and predictions.csv hold of an image."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cops_lightning.core.errors import CopsError, told
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.data.stream import Unreadable
from cops_lightning.models.prediction import Prediction

Row = dict[str, Any]
COLUMNS = ("name", "path", "page", "score", "label", "threshold", "p_value", "width", "height", "regions", "error")


def row_of(found: Prediction | Unreadable, regions: bool = True) -> Row:
    """What is said of an image; every row has the same keys. Without `regions` they are None.

    `page` counts from 1, and is None for pixels in memory. Boxes are left, top, right, bottom in pixels of the image.
    """
    picture = found.picture
    if isinstance(found, Unreadable):
        return _row(picture, error=found.reason)
    width, height = found.size
    return _row(
        picture,
        score=found.score,
        label=found.label,
        threshold=found.threshold,
        p_value=found.p_value,
        width=width,
        height=height,
        regions=[
            {"box": [*one[:4]], "area": one.area, "peak": one.peak, "p_value": one.p_value} for one in found.regions
        ]
        if regions
        else None,
    )


def _row(picture: Picture, **values: Any) -> Row:
    path = None if picture.path is None else str(picture.path)
    own = {"name": picture.name, "path": path, "page": None if path is None else picture.page + 1}
    return {**dict.fromkeys((*COLUMNS, "heatmap", "mask")), **own, **values}


def json_line(row: Mapping[str, Any]) -> str:
    """A row in one line of ASCII; `rows_of` gives the same row, names that are not Unicode included."""
    return json.dumps(row, allow_nan=False) + "\n"


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a predictions.jsonl, one at a time. Raises CopsError at a line that is none."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            with told(CopsError, f"Line {number} of {path} is no prediction", "Name another folder by out=."):
                row = json.loads(line)
                row["name"], row["regions"], row["error"]
            yield row


def cells(row: Mapping[str, Any]) -> list[Any]:
    """A row's values under COLUMNS; of regions how many there are."""
    regions = row["regions"]
    return [*(row[column] for column in COLUMNS[:-2]), None if regions is None else len(regions), row["error"]]
