"""Methods beside each other: mean, standard deviation and interval over seeds. Values are in percent."""

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text
from scipy import stats

from cops_lightning.core.measured import MEAN
from cops_lightning.core.names import printable
from cops_lightning.report.tables import NOT_AVAILABLE, NOTHING

MOST_TARGETS, MOST_COLUMNS = 6, 6
ALL_TARGETS = "mean of targets"


def percent(results: pd.DataFrame) -> pd.DataFrame:
    """Collected results with their values in percent."""
    return results.assign(value=100 * results["value"])


def summarise(frame: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean, standard deviation and Student-t interval over seeds of every metric, per category and per dataset.

    `n` is the number of seeds with a value; `sd`, `low` and `high` are NaN for fewer than 2.
    """
    keys = ["method", "auxiliary", "dataset", "seen", "category", "level", "metric"]
    grouped = frame.dropna(subset=["value"]).groupby(keys, sort=False, observed=True)["value"]
    table = grouped.agg(n="count", mean="mean", sd="std").reset_index()
    half = stats.t.ppf((1 + confidence) / 2, np.maximum(table["n"] - 1, 1)) * table["sd"] / np.sqrt(table["n"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def comparison_table(frame: pd.DataFrame, title: str, metric: str = "auroc") -> Table:
    """A line per method, and per auxiliary dataset where there are several, the best last; columns per target and
    level, in percent; they change places where these are more than the lines and than `MOST_COLUMNS`. Of several
    targets there is the mean too, and of more than `MOST_TARGETS` the mean alone.

    `frame` is what `percent` gives. A cell is "mean ± standard deviation" over seeds (n - 1 in the
    denominator), the value alone where there is one seed. Zero-shot only: a target that was trained on has no value.
    The mean is that of all targets in each seed; there is none where one of them is missing.
    """
    chosen = frame[(frame["category"] == MEAN) & (frame["metric"] == metric) & ~frame["seen"]].dropna(subset=["value"])
    learnt = chosen["auxiliary"] != NOTHING
    several = chosen.loc[learnt, "auxiliary"].nunique() > 1
    chosen = chosen.assign(line=chosen["method"] + (", on " + chosen["auxiliary"]).where(learnt & several, ""))
    by_seed = chosen.groupby(["line", "dataset", "level", "seed"], sort=False)["value"].mean()
    order = by_seed.groupby("line").mean().sort_values().index
    if (n_targets := chosen["dataset"].nunique()) > 1:
        means = _over_targets(by_seed)
        by_seed = means if n_targets > MOST_TARGETS and not means.empty else pd.concat([by_seed, means])
    spread = by_seed.groupby(["line", "dataset", "level"], sort=False).agg(["mean", "std", "count"])
    found = {key: tuple(values) for key, values in zip(spread.index, spread.to_numpy(), strict=True)}
    table = Table(
        title=Text(f"{printable(title)}: {metric.upper()} in %"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.show_edge, table.collapse_padding = False, True
    columns = list(dict.fromkeys((target, level) for _, target, level in found))
    turned = len(columns) > max(len(order), MOST_COLUMNS)
    between = ", " if turned else "\n"
    grid = [["method", *(f"{target}{between}{level}" for target, level in columns), "seeds"]]
    for line in order:
        seeds = max(int(count) for (name, *_), (_, _, count) in found.items() if name == line)
        grid.append([line, *(_cell(found.get((line, *column))) for column in columns), str(seeds)])
    (first, *heads), *body = zip(*grid, strict=True) if turned else grid
    table.add_column(first, overflow="fold")
    for head, *shown in zip(heads, *(cells for _, *cells in body), strict=True):  # long names are broken, not numbers
        table.add_column(Text(head), justify="right", overflow="fold", min_width=max(map(len, shown), default=0))
    for line, *shown in body:
        table.add_row(Text(line), *shown)
    return table


def _over_targets(by_seed: "pd.Series[float]") -> "pd.Series[float]":
    """The mean over targets of every line, level and seed that has all of them."""
    table = by_seed.unstack("dataset")
    complete = [
        of_level.dropna(axis="columns", how="all").dropna().mean(axis="columns")
        for _, of_level in table.groupby("level", sort=False)
    ]
    means = pd.concat(complete).to_frame("value").assign(dataset=ALL_TARGETS)
    reordered: pd.Series[float] = means.set_index("dataset", append=True).reorder_levels(by_seed.index.names)["value"]
    return reordered


def _cell(spread: tuple[float, float, float] | None) -> str:
    if spread is None:
        return NOT_AVAILABLE
    mean, deviation, count = spread
    return f"{mean:.1f}" + (f" ± {deviation:.1f}" if count > 1 else "")
