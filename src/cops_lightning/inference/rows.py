"""A prediction as a row of plain values: what predictions.jsonl and predictions.csv hold of an image."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from cops_lightning.core.errors import CopsError, told
from cops_lightning.core.hashes import content_of, contents_of
from cops_lightning.core.names import in_spreadsheet
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.data.stream import Unreadable
from cops_lightning.models.prediction import Prediction

Row = dict[str, Any]
COLUMNS = ("name", "path", "page", "score", "label", "threshold", "p_value", "width", "height", "regions", "error")
CHECK = "check"  # of a line of JSON: the hash of all before it


def row_of(found: Prediction | Unreadable, regions: bool = True) -> Row:
    """What is said of an image; every row has the same keys. Without `regions` they are None.

    `page` counts from 1, and is None for pixels in memory. Boxes are left, top, right, bottom in pixels of the image.
    `content` is the hash of the image's file, by which it is known again; `distance` is that of `Prediction`.
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
        distance=found.distance,
        width=width,
        height=height,
        regions=[
            {"box": [*one[:4]], "area": one.area, "peak": one.peak, "p_value": one.p_value} for one in found.regions
        ]
        if regions
        else None,
    )


def _row(picture: Picture, **values: Any) -> Row:
    path = picture.path
    own: Row = {"name": picture.name, "path": path and str(path), "page": path and picture.page + 1}
    own["content"] = content_of(path) if isinstance(path, Path) else None
    return {**dict.fromkeys((*COLUMNS, "distance", "heatmap", "mask")), **own, **values}


def contents_in(pictures: Sequence[Picture]) -> list[str | None]:
    """The hash of each picture's file; None where there is none on this machine that can be read."""
    files = [one.path for one in pictures if isinstance(one.path, Path)]
    found = iter(contents_of(files))
    return [next(found) if isinstance(one.path, Path) else None for one in pictures]


def json_line(row: Mapping[str, Any]) -> str:
    """A row in one line of ASCII, with a hash; `rows_of` gives the same row, names that are not Unicode included."""
    return json.dumps({**row, CHECK: _check(row)}, allow_nan=False) + "\n"


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a predictions.jsonl, one at a time. Raises CopsError at a line that `json_line` did not write."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            with told(CopsError, f"Line {number} of {path} is no prediction", "Name another folder by out=."):
                row: Row = json.loads(line)
                said = row.pop(CHECK)
                if said != _check(row):
                    raise ValueError("it is not what was written")
            yield row


def _check(row: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(row).encode())


def cells(row: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> list[Any]:
    """A row's values under columns; of regions how many there are, and of texts none that is a formula."""
    values = {**row, "regions": None if row["regions"] is None else len(row["regions"])}
    return [in_spreadsheet(value) if isinstance(value, str) else value for value in map(values.get, columns)]
