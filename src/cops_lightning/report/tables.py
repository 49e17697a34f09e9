"""Metric rows to files and tables: tidy CSV for further use, a summary for the console and for Markdown."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.table import Table
from rich.text import Text

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import replacing
from cops_lightning.core.types import MEAN, Level, MetricRow

NOT_AVAILABLE = "n/a"
# The auxiliary dataset of a run that trained on none.
NOTHING = "none"
SUMMARY: tuple[tuple[Level, str, str], ...] = (
    ("image", "auroc", "AUROC"),
    ("image", "ap", "AP"),
    ("image", "f1_max", "F1-max"),
    ("pixel", "auroc", "AUROC"),
    ("pixel", "ap", "AP"),
    ("pixel", "f1_max", "F1-max"),
    ("pixel", "aupro", "AUPRO"),
)

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Run:
    """What produced a row: `variant` is one setting of a `study`; `auxiliary` is the dataset it was trained on,
    `NOTHING` if none.
    """

    run_id: str
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
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            cells = asdict(row.run) | asdict(row.measured)
            cells["value"] = "" if row.measured.value is None else repr(float(row.measured.value))
            writer.writerow([cells[column] for column in COLUMNS])


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a file that `write_results` wrote, exactly; further columns are ignored.

    Raises CopsError if the file is absent, lacks a column, or holds a cell that its column does not allow.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise CopsError(
                    f"{path} lacks the column {', '.join(missing)}. A results file has {', '.join(COLUMNS)}."
                )
            return [_result_row(_Line(path, reader.line_num, cells)) for cells in reader]
    except FileNotFoundError:
        raise CopsError(f"{path} does not exist. Evaluate first, or give the path of a results.csv.") from None


def summary_table(rows: Iterable[MetricRow], title: str) -> Table:
    """A table for the console: per target, the means over its categories in percent.

    Raises ValueError if a target occurs twice, as it does in the rows of several runs: choose one of them first.
    """
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_edge, table.collapse_padding = False, True
    table.add_column("target", overflow="fold")
    for level, _, name in SUMMARY:
        table.add_column(f"{level}\n{name}", justify="right", no_wrap=True)
    table.add_column("normal+\nanomalous", justify="right", no_wrap=True)
    for cells in _summary(rows):
        table.add_row(*map(Text, cells))
    return table


def summary_markdown(rows: Iterable[MetricRow], title: str) -> str:
    """The same table as Markdown. Raises ValueError as `summary_table` does."""
    head = ["target", *(f"{level} {name}" for level, _, name in SUMMARY), "normal + anomalous"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *_summary(rows)]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{title}**\n\n{body}\n"


def _summary(rows: Iterable[MetricRow]) -> list[list[str]]:
    """Per target, in the order of the rows: its name, seven cells in percent, the numbers of images."""
    targets: dict[str, dict[tuple[Level, str], MetricRow]] = {}
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
        of_metric = [metrics.get((level, metric)) for level, metric, _ in SUMMARY]
        any_row = next(iter(metrics.values()))
        counts = f"{any_row.n_normal}+{any_row.n_anomalous}"
        lines.append([target, *(_percent(None if row is None else row.value) for row in of_metric), counts])
    return lines


def _percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{100 * value:.1f}"


@dataclass(frozen=True)
class _Line:
    """One line of a results file, not yet validated."""

    path: Path
    number: int
    cells: dict[str, str | None]

    def read(self, column: str, parse: Callable[[str], Parsed], expected: str) -> Parsed:
        cell = self.cells[column]
        try:
            return parse(cell or "")
        except ValueError:
            raise CopsError(f"{self.path}, line {self.number}: {column} is {cell!r}, expected {expected}.") from None


def _result_row(line: _Line) -> ResultRow:
    run = Run(
        run_id=line.read("run_id", str, "text"),
        study=line.read("study", str, "text"),
        variant=line.read("variant", str, "text"),
        seed=line.read("seed", int, "an integer"),
        auxiliary=line.read("auxiliary", str, "text"),
    )
    measured = MetricRow(
        target=line.read("target", _name, "a name"),
        category=line.read("category", _name, "a name"),
        level=line.read("level", _level, "image or pixel"),
        metric=line.read("metric", _name, "a name"),
        value=line.read("value", _value, "a number in [0, 1], or nothing"),
        n_normal=line.read("n_normal", _count, "a number of images"),
        n_anomalous=line.read("n_anomalous", _count, "a number of images"),
    )
    return ResultRow(run, measured)


def _name(cell: str) -> str:
    if not cell:
        raise ValueError(cell)
    return cell


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
