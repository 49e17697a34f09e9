"""The folder of predictions: rows are added as they come, and the same command goes on where it stopped."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cops_lightning.calibration import DriftWatch
from cops_lightning.calibration.conformal import chosen, q_values
from cops_lightning.core.errors import CopsError, quoted, told
from cops_lightning.core.files import claimed, growing, read_whole, writing
from cops_lightning.core.names import file_name
from cops_lightning.inference.rows import COLUMNS, Row, cells, json_line, rows_of

STATE, ROWS, TABLE, COCO = "predict.json", "predictions.jsonl", "predictions.csv", "regions.coco.json"
DISCOVERIES, DRIFT = "discoveries.csv", "drift.json"
CHOSEN = tuple(column for column in COLUMNS if column not in ("label", "threshold"))  # which are of single images
HEATMAPS, MASKS = "heatmaps", "masks"
CATEGORY = {"id": 1, "name": "anomaly"}


@dataclass
class Tally:
    """How many images there are, how many could not be read, are anomalous, or show no region; and whether they moved.

    `anomalous` is None where there is no verdict, and `moved` where drift is not watched.
    """

    images: int = 0
    unreadable: int = 0
    anomalous: int | None = None
    plain: int = 0
    moved: bool | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Count an image."""
        self.images += 1
        self.unreadable += row["error"] is not None
        self.plain += row["regions"] == []
        if row["label"] is not None:
            self.anomalous = (self.anomalous or 0) + (row["label"] == "anomalous")


@dataclass
class PredictionFolder:
    """What was predicted so far, in `root`; `opened` gives one.

    predictions.jsonl is what counts: all other tables, and drift.json, are made of it.
    """

    root: Path
    rows: TextIO
    table: TextIO
    tally: Tally = field(default_factory=Tally)

    def done(self) -> Iterator[Row]:
        """The rows that were there, one at a time."""
        return rows_of(self.root / ROWS)

    def file_of(self, kind: str, number: int, name: str) -> str:
        """Where a heat map or a mask of the image of this number lies, relative to `root`: no two images share it."""
        return f"{kind}/{file_name(f'{number:06}-{Path(name).stem}')}.png"

    def add(self, row: Row) -> None:
        """Add a row to both files; once it returns, a kill of this process takes nothing away."""
        self.rows.write(json_line(row))
        csv.writer(self.table, lineterminator="\n").writerow(cells(row))
        self.tally.add(row)

    def write_regions(self) -> None:
        """All regions as COCO's annotations: boxes as left, top, width, height; `score` is the peak of the map."""
        with writing(self.root / COCO) as file:
            file.write(f'{{"categories": [{json.dumps(CATEGORY)}],\n"images": [')
            _write_list(file, self._images())
            file.write('],\n"annotations": [')
            _write_list(file, self._annotations())
            file.write("]}\n")

    def write_drift(self, watch: DriftWatch) -> None:
        """Whether the images were found to have moved away from the calibration's, with the evidence."""
        found, self.tally.moved = watch.found, watch.found is not None
        evidence = {} if found is None else {"said": str(found), **asdict(found)}
        with writing(self.root / DRIFT) as file:
            json.dump({"moved": self.tally.moved, "windows": watch.windows, **evidence}, file, indent=2)

    def write_discoveries(self, rate: float | None) -> int:
        """The rows of the images that `select` chooses at a false-discovery rate, each with its q-value; how many.

        They keep the order of the images, and have no verdict of a single image, which is another question.

        All images count, so it is written at the end, of what is read back: in memory is a number for each p-value that
        the calibration can give. Without a rate the file of an earlier one is removed.
        """
        path = self.root / DISCOVERIES
        if rate is None:
            path.unlink(missing_ok=True)
            return 0
        found = Counter(p for row in self.done() if (p := row["p_value"]) is not None)
        distinct = np.array(sorted(found), dtype=float)
        q = q_values(distinct, np.array([found[p] for p in distinct.tolist()], dtype=int))
        of = {p: value for p, value, out in zip(distinct.tolist(), q.tolist(), chosen(q, rate), strict=True) if out}
        with writing(path) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([*CHOSEN, "q_value"])
            table.writerows([*cells(row, CHOSEN), of[row["p_value"]]] for row in self.done() if row["p_value"] in of)
        return sum(found[p] for p in of)

    def _images(self) -> Iterator[Row]:
        for number, row in enumerate(self.done(), 1):
            if row["error"] is None:
                yield {"id": number, "file_name": row["name"], "width": row["width"], "height": row["height"]}

    def _annotations(self) -> Iterator[Row]:
        count = 0
        for number, row in enumerate(self.done(), 1):
            for region in row["regions"] or ():
                count += 1
                left, top, right, bottom = region["box"]
                yield {
                    "id": count,
                    "image_id": number,
                    "category_id": CATEGORY["id"],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": region["area"],
                    "score": region["peak"],
                    "iscrowd": 0,
                }


@contextmanager
def opened(root: Path, decides: Mapping[str, Any]) -> Iterator[PredictionFolder]:
    """The folder of predictions that `decides` decides, new or to go on with; it is this process's alone meanwhile.

    `decides` are plain values. Raises CopsError, and changes nothing, where the folder holds predictions that others
    decided, or another process works in it.
    """
    with ExitStack() as stack:
        if not stack.enter_context(claimed(root)):
            raise CopsError(f"Another command writes predictions into {root}. Wait for its end, or name another out=.")
        plain = json.loads(json.dumps(decides))
        if not (root / STATE).exists():
            _begin(root, plain)
        rows = stack.enter_context(growing(root / ROWS))
        _go_on(root, plain)
        tally = Tally()
        with writing(root / TABLE) as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for row in rows_of(root / ROWS):
                tally.add(row)
                table.writerow(cells(row))
        yield PredictionFolder(root, rows, stack.enter_context(growing(root / TABLE)), tally)


def decided(root: Path) -> Mapping[str, Any]:
    """What decided the predictions in a folder; nothing where there are none, or that cannot be read."""
    try:
        found = json.loads(read_whole(root / STATE))
    except (OSError, ValueError, RecursionError):  # of which the last two are said when the folder is opened
        return {}
    return found if isinstance(found, dict) else {}


def require_same(root: Path, decides: Mapping[str, Any]) -> None:
    """Raise CopsError where there are predictions in a folder that another value of one of `decides` decided."""
    if (before := decided(root)) and (root / ROWS).exists() and (root / ROWS).stat().st_size:
        plain = json.loads(json.dumps(decides))
        _refuse_others(root, {key: before.get(key) for key in plain}, plain)


def _begin(root: Path, decides: Mapping[str, Any]) -> None:
    found = next(
        (name for name in (ROWS, TABLE, COCO, DISCOVERIES, DRIFT, HEATMAPS, MASKS) if (root / name).exists()), None
    )
    if found is not None:
        raise CopsError(f"{root} holds {found} of something else. Name another folder by out=.")
    _write_state(root, decides)


def _write_state(root: Path, decides: Mapping[str, Any]) -> None:
    with writing(root / STATE) as file:
        json.dump(decides, file, indent=2)


def _go_on(root: Path, decides: Mapping[str, Any]) -> None:
    if (root / ROWS).stat().st_size == 0:  # nothing was done
        _write_state(root, decides)
        return
    with told(CopsError, f"{root / STATE} cannot be read", f"Remove {root}, or name another folder by out=."):
        before = dict(json.loads(read_whole(root / STATE)))
    _refuse_others(root, before, decides)


def _refuse_others(root: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise CopsError(
                f"{root} holds predictions {_other(key, before.get(key), now.get(key))}. Repeat the command that began "
                "them, or name another folder by out=."
            )


def _other(key: str, before: Any, now: Any) -> str:
    if key != "calibration":
        return f"with {key} {quoted(before)}, now it is {quoted(now)}"
    if before is None:
        return "without a calibration, now there is one"
    was = f"with a calibration whose SHA-256 begins with {str(before)[:8]}, now "
    return was + ("there is none" if now is None else f"it is another one, {str(now)[:8]}")


def _write_list(file: TextIO, entries: Iterator[Row]) -> None:
    for place, entry in enumerate(entries):
        file.write(f"{',' if place else ''}\n{json.dumps(entry)}")
