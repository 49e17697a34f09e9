"""Variants of one study beside each other: mean and standard deviation over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from rich import box
from rich.table import Table
from rich.text import Text

from cops_lightning.core.types import MEAN, Level
from cops_lightning.report.tables import ResultRow

LEVELS: tuple[Level, ...] = ("image", "pixel")


def comparison_table(
    rows: Iterable[ResultRow], title: str, metric: str = "auroc", groups: Mapping[str, Sequence[str]] | None = None
) -> Table:
    """A table for the console: a line per variant, columns per target and level, in percent.

    A cell is "mean ± standard deviation" over seeds (n - 1 in the denominator), the value alone where there is one
    seed. `groups` names targets of which every seed's mean is shown instead. A column that no variant fills is left
    out. Raises ValueError if a seed of a variant has two values for one target.
    """
    cells = _cells(rows, metric, groups or {})
    columns = list(dict.fromkeys(column for found in cells.values() for column in found))
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_edge, table.collapse_padding = False, True
    table.add_column("variant", no_wrap=True)
    for target, level in columns:
        table.add_column(f"{target}\n{level} {metric.upper()}", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right")
    for variant, found in cells.items():
        seeds = max(map(len, found.values()), default=0)
        table.add_row(Text(variant), *(_spread(found.get(column, [])) for column in columns), str(seeds))
    return table


def _cells(
    rows: Iterable[ResultRow], metric: str, groups: Mapping[str, Sequence[str]]
) -> dict[str, dict[tuple[str, Level], list[float]]]:
    """Values over seeds, by variant and by (target, level)."""
    group_of = {target: name for name, members in groups.items() for target in members}
    values: dict[str, dict[tuple[str, Level], dict[int, dict[str, float]]]] = {}
    for row in rows:
        m = row.measured
        if m.category != MEAN or m.metric != metric or m.value is None:
            continue
        column = (group_of.get(m.target, m.target), m.level)
        of_seed = values.setdefault(row.run.variant, {}).setdefault(column, {}).setdefault(row.run.seed, {})
        if m.target in of_seed:
            raise ValueError(
                f"{row.run.variant} with seed {row.run.seed} has two values of {m.level} {metric} for {m.target}. "
                "Select one study and one auxiliary dataset."
            )
        of_seed[m.target] = m.value
    return {
        variant: {column: [fmean(seed.values()) for seed in seeds.values()] for column, seeds in found.items()}
        for variant, found in values.items()
    }


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "n/a"
    mean = f"{100 * fmean(values):.1f}"
    return f"{mean} ± {100 * stdev(values):.1f}" if len(values) > 1 else mean
