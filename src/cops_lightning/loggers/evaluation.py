"""What a finished evaluation has to show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cops_lightning.core.measured import MEAN, MetricRow
from cops_lightning.core.names import file_names, printable
from cops_lightning.metrics.curves import CategoryCurves
from cops_lightning.report.figures import Example

ID_COLUMNS = ("target", "category", "n_normal", "n_anomalous")


@dataclass(frozen=True)
class Evaluation:
    """Metrics, curves and heat maps of all targets.

    Args:
        rows: The metrics.
        curves: ROC and precision-recall curves, if any logger shows them.
        examples: Heat maps by target, for loggers that draw them their own way.
        scale: The values of the colour scale's ends.
        drawn: The folder of the same heat maps as pictures: TARGET.png is a target's contact sheet, and TARGET/*.png
            are its images, where TARGET is its name among `core.names.file_names`.
    """

    rows: Sequence[MetricRow]
    curves: Sequence[CategoryCurves]
    examples: Mapping[str, Sequence[Example]]
    scale: tuple[float, float]
    drawn: Path

    def scalars(self) -> dict[str, float]:
        """Every defined metric of a target, averaged over its categories, as TARGET/LEVEL_METRIC.

        mean/LEVEL_METRIC averages the targets that define the metric.
        """
        values: dict[str, float] = {}
        of_metric: dict[str, list[float]] = {}
        for row in self.rows:
            if row.category == MEAN and row.value is not None:
                metric = f"{row.level}_{row.metric}"
                values[printable(f"{row.target}/{metric}")] = row.value
                of_metric.setdefault(metric, []).append(row.value)
        return values | {f"{MEAN}/{metric}": sum(found) / len(found) for metric, found in of_metric.items()}

    def pictures(self) -> dict[str, dict[str, Path]]:
        """By target: the contact sheet as `contact_sheet` and single heat maps as heatmaps/NAME, as far as drawn."""
        found: dict[str, dict[str, Path]] = {}
        for target, name in file_names(row.target for row in self.rows).items():
            sheet = self.drawn / f"{name}.png"
            pictures = {"contact_sheet": sheet} if sheet.is_file() else {}
            pictures |= {f"heatmaps/{path.stem}": path for path in sorted((self.drawn / name).glob("*.png"))}
            if pictures:
                found[target] = pictures
        return found

    def table(self) -> tuple[list[str | int], list[Iterable[Any]]]:
        """Column names and lines, one per category of each target, with a column per metric; None is undefined."""
        metrics = list(dict.fromkeys(f"{row.level}_{row.metric}" for row in self.rows))
        lines: dict[tuple[str, str], dict[str | int, Any]] = {}
        for row in self.rows:
            line = lines.setdefault((row.target, row.category), {name: getattr(row, name) for name in ID_COLUMNS})
            line[f"{row.level}_{row.metric}"] = row.value
        columns: list[str | int] = [*ID_COLUMNS, *metrics]
        return columns, [[line.get(column) for column in columns] for line in lines.values()]
