"""Methods beside each other on the console: mean and standard deviation over seeds."""

from collections.abc import Mapping, Sequence

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from cops_lightning.core.types import MEAN
from cops_lightning.report.tables import NOT_AVAILABLE, NOTHING


def comparison_table(
    frame: pd.DataFrame, title: str, metric: str = "auroc", groups: Mapping[str, Sequence[str]] | None = None
) -> Table:
    """A line per method, and per auxiliary dataset where there are several, the best last; columns per target and
    level, in percent.

    `frame` is what `analysis.prepare` gives. A cell is "mean ± standard deviation" over seeds (n - 1 in the
    denominator), the value alone where there is one seed. `groups` names targets of which every seed's mean is shown
    instead. A column that nothing fills is left out.
    """
    chosen = frame[(frame["category"] == MEAN) & (frame["metric"] == metric)].dropna(subset=["value"])
    group_of = {target: name for name, members in (groups or {}).items() for target in members}
    learnt = chosen["auxiliary"] != NOTHING
    several = chosen.loc[learnt, "auxiliary"].nunique() > 1
    chosen = chosen.assign(
        line=chosen["method"] + (", on " + chosen["auxiliary"]).where(learnt & several, ""),
        column=chosen["target"].map(lambda target: group_of.get(target, target)),
    )
    by_seed = chosen.groupby(["line", "column", "level", "seed"], sort=False)["value"].mean()
    spread = by_seed.groupby(["line", "column", "level"], sort=False).agg(["mean", "std", "count"])
    order = by_seed.groupby("line").mean().sort_values().index
    found = {key: tuple(values) for key, values in zip(spread.index, spread.to_numpy(), strict=True)}
    table = Table(
        title=Text(f"{title}: {metric.upper()} in %"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.show_edge, table.collapse_padding = False, True
    table.add_column("method", no_wrap=True)
    columns = list(dict.fromkeys((column, level) for _, column, level in found))
    for column, level in columns:
        table.add_column(f"{column}\n{level}", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right")
    for line in order:
        cells = [_cell(found.get((line, *column))) for column in columns]
        seeds = max(int(count) for (name, *_), (_, _, count) in found.items() if name == line)
        table.add_row(Text(line), *cells, str(seeds))
    return table


def _cell(spread: tuple[float, float, float] | None) -> str:
    if spread is None:
        return NOT_AVAILABLE
    mean, deviation, count = spread
    return f"{mean:.1f}" + (f" ± {deviation:.1f}" if count > 1 else "")
