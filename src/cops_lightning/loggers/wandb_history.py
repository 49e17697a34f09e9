"""Which rows the attempts at a run have logged to W&B: a file that outlives a killed process."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cops_lightning.core.files import replacing


@dataclass(frozen=True)
class Row:
    """Numbers that were logged together.

    Args:
        position: W&B's own `_step`, which counts rows.
        step: The step of the optimiser.
        time: When, in seconds since 1970.
        values: The numbers by name; none where the row held pictures and tables.
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
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                rows.append(Row(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return rows

    def append(self, row: Row) -> None:
        """Add a row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def replace(self, rows: Iterable[Row]) -> None:
        """Keep these rows only."""
        with replacing(self.path) as partial:
            partial.write_text("".join(map(_line, rows)), encoding="utf-8")


def _line(row: Row) -> str:
    return json.dumps(asdict(row)) + "\n"
