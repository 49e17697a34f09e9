"""Which rows the attempts at a run have logged to W&B: a file that outlives a killed process."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cops_lightning.core.files import writing


@dataclass(frozen=True)
class Row:
    """Numbers that were logged together.

    `position` is W&B's own `_step`, which counts rows; `step` is that of the optimiser; `time` is in seconds since
    1970. A row of pictures and tables has no `values`.
    """

    position: int
    step: int
    time: float
    values: Mapping[str, float]


class RowLog:
    """A line of JSON per row, on disk at once. A line that a kill cut short is ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Row]:
        """All rows, oldest first."""
        rows = []
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else ():
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return rows

    def append(self, row: Row) -> None:
        """Add a row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def replace(self, rows: Iterable[Row]) -> None:
        """Keep these rows only."""
        with writing(self.path) as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
