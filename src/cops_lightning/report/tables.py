"""Metric rows to files and tables: tidy CSV for further use, a summary for the console and for Markdown."""

import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from cops_lightning.core.errors import CopsError, quoted, told
from cops_lightning.core.files import writing
from cops_lightning.core.measured import MEAN, Level, MetricRow
from cops_lightning.core.names import in_markdown, printable
from cops_lightning.report.metric_names import METRICS, NAMES, Metric, metric_name

NOT_AVAILABLE = "n/a"
# The auxiliary dataset of a run that trained on none.
NOTHING = "none"


@dataclass(frozen=True)
class Run:
    """What produced a row.

    Args:
        run_id: Hash of all settings, the seed included.
        method: Hash of all settings that can change the numbers, the seed left out: what results are grouped by.
        study: What the run belongs to.
        variant: A label for people. Two methods may share one, and a method may have several.
        seed: Of the run.
        auxiliary: The dataset that it was trained on; "none" for a method that trains on none.
    """

    run_id: str
    method: str
    study: str
    variant: str
    seed: int
    auxiliary: str


@dataclass(frozen=True)
class ResultRow:
    """One line of a results file: what was measured, and the run that it was measured in."""

    run: Run
    measured: MetricRow


COLUMNS = tuple(field for owner in (Run, MetricRow) for field in owner.__dataclass_fields__)


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write tidy CSV with the columns `COLUMNS`, replacing the file in one step: readers see all of it or none.

    Equal rows give equal bytes. Values have full precision; a value that is not available is an empty cell.
    """
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            cells = asdict(row.run) | asdict(row.measured)
            cells["value"] = "" if row.measured.value is None else repr(float(row.measured.value))
            writer.writerow([cells[column] for column in COLUMNS])


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a file that `write_results` wrote, exactly. Raises CopsError as `read_columns` does."""
    columns = read_columns(path)
    runs = map(Run, *(columns[name] for name in Run.__dataclass_fields__))
    measured = map(MetricRow, *(columns[name] for name in MetricRow.__dataclass_fields__))
    return list(map(ResultRow, runs, measured))


def read_columns(path: Path, wanted: Sequence[str] = COLUMNS) -> dict[str, list[Any]]:
    """The same by column, or another table of a run: the cells of each wanted column, parsed; others are ignored.

    Raises CopsError if the file is absent, lacks a column, or holds a cell that its column does not allow.
    """
    if not path.is_file():
        raise CopsError(f"{path} does not exist. Evaluate first, or give the path of a {path.name}.")
    with (
        told(CopsError, f"{path} cannot be read", f"Expected the {path.name} of a run; score again if it is damaged."),
        path.open(newline="", encoding="utf-8") as file,
    ):
        reader = csv.reader(file)
        head = next(reader, [])
        lines = [(reader.line_num, cells) for cells in reader if cells]
    missing = [column for column in wanted if column not in head]
    if missing:
        raise CopsError(
            f"{path} lacks the column {', '.join(missing)}; it needs {', '.join(wanted)}. Score again: with "
            "cops-eval from the run's checkpoint, or with cops-train in a new folder."
        )
    numbers = [number for number, _ in lines]
    columns = list(zip_longest(head, *(cells for _, cells in lines)))
    return {column: _parsed(path, numbers, columns[head.index(column)][1:], column) for column in wanted}


def _parsed(path: Path, numbers: Sequence[int], cells: Sequence[str | None], column: str) -> list[Any]:
    """The cells of a column, each text parsed once. `numbers` are their lines; None stands for a line too short."""
    parse, expected = CELLS.get(column, (sys.intern, "text"))
    known: dict[str | None, Any] = {}
    for cell in dict.fromkeys(cells):
        try:
            if cell is None:
                raise ValueError
            known[cell] = parse(cell)
        except ValueError:
            number = numbers[cells.index(cell)]
            raise CopsError(f"{path}, line {number}: {column} is {quoted(cell)}, expected {expected}.") from None
    return [*map(known.__getitem__, cells)]


def summary_table(rows: Iterable[MetricRow], title: str) -> Table:
    """A table for the console: per target, the means over its categories in percent.

    Raises ValueError if a target occurs twice, as it does in the rows of several runs: choose one of them first.
    """
    shown = Text(printable(title))
    table = Table(title=shown, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_edge, table.collapse_padding = False, True
    table.add_column("target", overflow="fold")
    for level, metric in METRICS:
        table.add_column(f"{level}\n{NAMES[metric]}", justify="right", no_wrap=True)
    table.add_column("normal+\nanomalous", justify="right", no_wrap=True)
    for cells in _summary(rows):
        table.add_row(*map(Text, cells))
    return table


def summary_markdown(rows: Iterable[MetricRow], title: str) -> str:
    """The same table as Markdown. Raises ValueError as `summary_table` does."""
    head = ["target", *map(metric_name, METRICS), "normal + anomalous"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *_summary(rows)]
    body = "\n".join("| " + " | ".join(map(in_markdown, line)) + " |" for line in lines)
    return f"**{in_markdown(title)}**\n\n{body}\n"


def _summary(rows: Iterable[MetricRow]) -> list[list[str]]:
    """Per target, in the order of the rows: its name, seven cells in percent, the numbers of images."""
    targets: dict[str, dict[Metric, MetricRow]] = {}
    for row in rows:
        if row.category == MEAN:
            metrics = targets.setdefault(row.target, {})
            if (row.level, row.metric) in metrics:
                raise ValueError(
                    f"{row.target} has more than one {row.level} {row.metric}. "
                    "A summary shows one run: select its rows."
                )
            metrics[row.level, row.metric] = row
    lines = []
    for target, metrics in targets.items():
        of_metric = [metrics.get(metric) for metric in METRICS]
        any_row = next(iter(metrics.values()))
        counts = f"{any_row.n_normal}+{any_row.n_anomalous}"
        lines.append([printable(target), *(_percent(None if row is None else row.value) for row in of_metric), counts])
    return lines


def _percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{100 * value:.1f}"


def _name(cell: str) -> str:
    if not cell:
        raise ValueError(cell)
    return sys.intern(cell)


def _level(cell: str) -> Level:
    match cell:
        case "image" | "pixel":
            return cell
        case _:
            raise ValueError(cell)


def _value(cell: str) -> float | None:
    if not cell:
        return None
    value = float(cell)
    if not 0 <= value <= 1:
        raise ValueError(cell)
    return value


def _count(cell: str) -> int:
    count = int(cell)
    if count < 0:
        raise ValueError(cell)
    return count


def _score(cell: str) -> float:
    score = float(cell)
    if not math.isfinite(score):
        raise ValueError
    return score


# How the cells of a column are read, and what they may hold; those of the others are any text.
CELLS: dict[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(("method", "target", "category", "metric"), (_name, "a name")),
    **dict.fromkeys(("seed", "label"), (int, "an integer")),
    "score": (_score, "a number that is finite"),
    "level": (_level, "image or pixel"),
    "value": (_value, "a number in [0, 1], or nothing"),
    **dict.fromkeys(("n_normal", "n_anomalous"), (_count, "a number of images")),
}
