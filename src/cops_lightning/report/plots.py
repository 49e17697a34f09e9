"""Figures of the report, as SVG: colours that colour-blind readers tell apart, units and n in every one."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from scipy import stats

from cops_lightning.report.analysis import (
    Comparison,
    HealthRecord,
    Ranking,
    ShiftCorrelation,
    VarianceRecord,
    datasets_of,
)
from cops_lightning.report.metric_names import Metric, metric_name
from cops_lightning.report.stats import mean_interval, state_p

# Okabe and Ito's palette, which people with any colour vision tell apart; markers differ too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "cops",  # equal content, equal bytes
    "svg.fonttype": "none",  # text stays text; as outlines, their order would differ from process to process
}
MOST_METHODS = len(COLORS)


def _svg(figure: Figure) -> bytes:
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    with mpl.rc_context({name: value for name, value in STYLE.items() if name.startswith("svg.")}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def strips(frame: pd.DataFrame, methods: Sequence[str], metric: Metric) -> bytes | None:
    """A dot per seed, dataset by dataset; a bar for the mean and a line for its 95 % interval. None without values."""
    table = datasets_of(frame, metric)
    shown = [method for method in methods if method in table.index.get_level_values("method")][:MOST_METHODS]
    if not shown:
        return None
    conditions = list(dict.fromkeys(table.index.get_level_values("condition")))
    with mpl.rc_context(STYLE):
        height = 0.9 + len(conditions) * (0.24 + 0.2 * len(shown))
        figure = Figure(figsize=(8.2, height))
        ax = figure.subplots()
        for number, method in enumerate(shown):
            color, marker = COLORS[number], MARKERS[number]
            offset = 0.0 if len(shown) == 1 else 0.64 * (number / (len(shown) - 1) - 0.5)
            label: str | None = method
            for row, condition in enumerate(conditions):
                if (method, condition) not in table.index:
                    continue
                values = table.loc[(method, condition)].dropna().to_numpy(dtype=float)
                interval, y = mean_interval(values), row + offset
                ax.plot(values, np.full(len(values), y), marker, color=color, alpha=0.45, markersize=5, mew=0)
                ax.plot([interval.mean], [y], "|", color=color, markersize=11, mew=2.2)
                if interval.low is not None and interval.high is not None:
                    ax.plot([max(interval.low, 0), min(interval.high, 100)], [y, y], "-", color=color, lw=1.3)
                ax.plot([], [], marker, color=color, label=label)
                label = None
        for edge in range(len(conditions) - 1):
            ax.axhline(edge + 0.5, color="0.9", lw=0.8)
        counts = table.notna().sum(axis=1)
        ax.set_yticks(range(len(conditions)), conditions)
        ax.set_ylim(len(conditions) - 0.5, -0.5)
        ax.set_xlabel(f"{metric_name(metric)} (%); n = {_span(counts)} seeds, bar: mean, line: its 95 % interval")
        ax.grid(axis="x", color="0.9", lw=0.8)
        if len(shown) > 1:
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, len(shown)), borderaxespad=0.2)
        return _svg(figure)


def _span(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def forest(comparison: Comparison) -> bytes:
    """A minus B per dataset with its 95 % interval, and below them the mean over datasets."""
    rows = [
        (f"{row.condition}  (n = {row.paired.n})", row.paired.difference, row.p is not None and row.p < 0.05)
        for row in comparison.conditions
    ]
    decided = comparison.decision in ("shown", "opposite")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 1.1 + 0.32 * (len(rows) + 1)))
        ax = figure.subplots()
        total = (f"mean of {len(rows)} datasets", comparison.over.difference, decided)
        for y, (_, interval, found) in enumerate([*rows, total]):
            color = COLORS[0] if y < len(rows) else "black"
            if interval.low is not None and interval.high is not None:
                ax.plot([interval.low, interval.high], [y, y], "-", color=color, lw=1.6)
            face = color if found else "white"
            marker = "D" if y == len(rows) else "o"
            ax.plot([interval.mean], [y], marker, color=color, mfc=face, markersize=7, mew=1.6)
        ax.axhline(len(rows) - 0.5, color="0.75", lw=0.8)
        ax.axvline(0, color="0.35", lw=1, ls="--")
        ax.set_yticks(range(len(rows) + 1), [*(name for name, _, _ in rows), total[0]])
        ax.set_ylim(len(rows) + 0.5, -0.5)
        low, high = ax.get_xlim()
        reach = max(abs(low), abs(high), 0.5)
        ax.set_xlim(-reach, reach)
        name = metric_name(comparison.metric)
        ax.set_xlabel(
            f"← {comparison.b} better      {name}: difference in points      {comparison.a} better →\n"
            "line: 95 % interval; filled: the difference is shown at level 0.05 (adjusted), hollow: it is not"
        )
        ax.grid(axis="x", color="0.92", lw=0.8)
        return _svg(figure)


def critical_difference_diagram(ranking: Ranking) -> bytes | None:
    """Mean ranks; a bar joins methods that Nemenyi's test does not tell apart. None where no test was made."""
    result = ranking.result
    if result.nemenyi is None or result.critical_difference is None:
        return None
    names = list(ranking.methods)
    ranks = pd.Series(result.mean_ranks, index=names)
    significance = pd.DataFrame(result.nemenyi, index=names, columns=names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.2 + 0.28 * len(names)))
        ax = figure.subplots()
        drawn = scikit_posthocs.critical_difference_diagram(
            ranks.to_dict(),
            significance,
            ax=ax,
            label_props={"fontsize": 10},
            crossbar_props={"color": "black", "linewidth": 3},
            color_palette={name: COLORS[i % len(COLORS)] for i, name in enumerate(names)},
        )
        for line in (line for bar in drawn["crossbars"] for line in bar):
            line.set_xdata(sorted(line.get_xdata()))  # drawn in the order of a set, another one in every process
        ax.set_title(
            f"{metric_name(ranking.metric)}: mean rank over {len(ranking.conditions)} datasets (1 is best); critical "
            f"difference {result.critical_difference:.2f}",
            fontsize=10,
            pad=12,
        )
        return _svg(figure)


def transfer(matrix: pd.DataFrame, metric: Metric, n: str) -> bytes:
    """Auxiliary x target as a table of colours, values printed in; the best auxiliary of a target is framed."""
    values = matrix.to_numpy(dtype=float)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 0.85 * matrix.shape[1], 1.6 + 0.45 * matrix.shape[0]))
        ax = figure.subplots()
        image = ax.imshow(values, cmap="cividis", aspect="auto")
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        unseen = values.copy()
        for i, auxiliary in enumerate(matrix.index):
            for j, target in enumerate(matrix.columns):
                if auxiliary == target:
                    unseen[i, j] = np.nan
                if np.isfinite(values[i, j]):
                    text = f"{values[i, j]:.1f}" + ("*" if auxiliary == target else "")
                    ax.text(j, i, text, ha="center", va="center", color="white" if values[i, j] < middle else "black")
        if len(matrix) > 1:
            for j in range(matrix.shape[1]):
                if np.isfinite(unseen[:, j]).any():
                    best = int(np.nanargmax(unseen[:, j]))
                    corner = (j - 0.47, best - 0.47)
                    ax.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=COLORS[1], linewidth=2.4))
        ax.set_xticks(range(matrix.shape[1]), list(matrix.columns), rotation=30, ha="right")
        ax.set_yticks(range(matrix.shape[0]), list(matrix.index))
        ax.set_xlabel(f"target; mean over {n} seeds, framed: best auxiliary, *: trained on (not zero-shot)")
        ax.set_ylabel("auxiliary")
        ax.tick_params(length=0)
        figure.colorbar(image, ax=ax, fraction=0.05, label=f"{metric_name(metric)} (%)")
        return _svg(figure)


def shift_scatter(correlations: Sequence[ShiftCorrelation]) -> bytes | None:
    """Performance against distance, a point per pair of auxiliary and target. None without points."""
    if not correlations:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * len(correlations), 3.6), layout="constrained")
        for ax, c in zip(figure.subplots(1, len(correlations), squeeze=False)[0], correlations, strict=True):
            ax.plot(c.distance, c.performance, "o", color=COLORS[0], markersize=7)
            for x, y, label in zip(c.distance, c.performance, c.labels, strict=True):
                ax.annotate(label, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, color="0.3")
            of = "images" if c.metric[0] == "image" else "patches"
            ax.set_xlabel(f"Fréchet distance of {of} (unit features)")
            ax.set_ylabel(f"{metric_name(c.metric)} (%)")
            rho = "" if c.outcome.statistic is None else f"rho = {c.outcome.statistic:+.2f}, "
            p = c.outcome.why if c.outcome.p is None else state_p(c.outcome.p)
            ax.set_title(f"Spearman {rho}{p}; n = {len(c.distance)}", fontsize=10)
            ax.margins(0.18)
            ax.grid(color="0.92", lw=0.8)
        return _svg(figure)


def latents(record: HealthRecord) -> bytes:
    """Left: posterior means of images in the plane of their principal components, and the prior. Right: KL spectrum."""
    projection: Mapping[str, Sequence[Sequence[float]]] = record.content["projection"]["points"]
    explained = [100 * share for share in record.content["projection"]["explained"]]
    kl = np.array(record.content["kl"], dtype=float)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, (name, points) in enumerate(projection.items()):
            x, y = np.array(points, dtype=float).T
            left.plot(
                x,
                y,
                MARKERS[number % len(MARKERS)],
                color=COLORS[number % len(COLORS)],
                alpha=0.6,
                markersize=4,
                mew=0,
                label=f"{name} ({len(x)})",
            )
        radius = float(np.sqrt(stats.chi2.ppf(0.95, 2)))
        left.add_patch(Circle((0, 0), radius, fill=False, ls="--", color="0.4", label="prior, 95 %"))
        left.set_aspect("equal", adjustable="datalim")
        left.autoscale_view()
        left.set_xlabel(f"first component ({explained[0]:.0f} % of variance)")
        left.set_ylabel(f"second component ({explained[1]:.0f} %)")
        left.set_title("posterior means, a dot per image (n)", fontsize=10)
        left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
        right.plot(np.arange(1, len(kl) + 1), kl, color=COLORS[0], lw=1.8)
        right.set_ylim(0, max(1e-3, 1.05 * float(kl.max())))
        right.set_xlabel(f"latent dimension, sorted (of {len(kl)})")
        right.set_ylabel("KL (nats, mean over images)")
        right.set_title(f"{kl.sum():.3g} nats in all, {record.content['active_units']} dimensions active", fontsize=10)
        right.grid(color="0.92", lw=0.8)
        return _svg(figure)


def variance(records: Sequence[VarianceRecord]) -> bytes | None:
    """Standard deviation that each source brings by itself, side by side. None without records."""
    if not records:
        return None
    parts = ("seed", "interaction", "draw")
    labels = {"seed": "seed", "interaction": "seed x dataset", "draw": "latent draw"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.1 + 0.62 * len(records)))
        ax: Axes = figure.subplots()
        for number, part in enumerate(parts):
            deviations = [np.sqrt(getattr(record.components, part) or 0.0) for record in records]
            y = np.arange(len(records)) + 0.24 * (number - 1)
            ax.barh(y, deviations, height=0.22, color=COLORS[number], label=labels[part])
            for at, value, record in zip(y, deviations, records, strict=True):
                text = "not measured" if getattr(record.components, part) is None else f"{value:.2f}"
                ax.text(value, at, f" {text}", va="center", fontsize=8)
        names = [
            f"{r.method} ({r.auxiliary})\n{r.seeds} seeds, {r.datasets} datasets, {r.draws} draws" for r in records
        ]
        ax.set_yticks(range(len(records)), names)
        ax.set_ylim(len(records) - 0.5, -0.5)
        ax.margins(x=0.12)
        ax.set_xlabel("standard deviation that each source brings by itself (points of image AUROC)")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
        return _svg(figure)
