"""Figures of the report, as SVG: one idea each, with units, on scales that are shared where they are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import scikit_posthocs
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy import stats

from cops_lightning.report.claims import Claim, Verdict
from cops_lightning.report.diagnostics import Health
from cops_lightning.report.metric_names import Metric, metric_name
from cops_lightning.report.stats.aggregates import profile
from cops_lightning.report.stats.ranks import RankComparison
from cops_lightning.report.svg import COLORS, STYLE, as_svg

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
OF_VERDICT: dict[Verdict, str] = {
    "better": "#0072B2",
    "worse": "#D55E00",
    "equivalent": "#009E73",
    "undecided": "#767676",
}
MOST_METHODS = 40
LAYERS = 8  # of dots that may lie on each other
LONGEST = 34  # characters of a name beside an axis


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def left_out(count: int, what: str) -> str:
    """A sentence, to follow others, where a figure does not show all `count` of them; empty where it does."""
    if count <= MOST_METHODS:
        return ""
    return (
        f" Drawn are the first {MOST_METHODS} of {count} {what}, in the order of the claims; the tables here have all."
    )


@mpl.rc_context(STYLE)
def forest(claims: Sequence[Claim], margin: float) -> bytes:
    """Every claim with its 95 % interval, a panel per metric, one scale for all."""
    panels: dict[Metric, list[Claim]] = {}
    for claim in claims:
        panels.setdefault((claim.comparison.level, claim.comparison.metric), []).append(claim)
    panels = {metric: of[:MOST_METHODS] for metric, of in panels.items()}
    heights = [len(of) + 1.2 for of in panels.values()]
    figure = Figure(figsize=(4.6, 0.6 + 0.22 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    reach = 1.5 * margin
    for ax, (metric, of) in zip(axes, panels.items(), strict=True):
        ax.axvspan(-margin, margin, color="0.93", lw=0)
        ax.axvline(0, color="0.45", lw=1)
        for y, claim in enumerate(of):
            c, color = claim.comparison, OF_VERDICT[claim.comparison.verdict]
            face = color if claim.verdict in ("better", "worse") else "white"
            if c.interval is not None:
                ax.plot(c.interval, [y, y], "-", color=color, lw=1.8)
                reach = max(reach, *(min(abs(bound), 3 * abs(c.difference) + 10 * margin) for bound in c.interval))
            if np.isfinite(c.difference):
                ax.plot([c.difference], [y], "o", color=color, mfc=face, markersize=5.5, mew=1.5)
                reach = max(reach, abs(c.difference))
        ax.set_yticks(range(len(of)), [_short(claim.comparison.b) for claim in of], fontsize=9)
        ax.set_ylim(len(of) - 0.4, -0.6)
        ax.set_title(metric_name(metric), fontsize=10, loc="left")
        ax.tick_params(length=0, labelbottom=True, labelsize=9)
        ax.grid(axis="x", color="0.9", lw=0.8)
    axes[0].set_xlim(-1.04 * reach, 1.04 * reach)
    axes[-1].set_xlabel(f"{_short(claims[0].comparison.a)} minus the other, in points", fontsize=9)
    return as_svg(figure)


def _dots(ax: Axes, at: Float[np.ndarray, "n 2"], **style: Any) -> None:
    """Dots as one path of lines without length and with round ends: as an element each, thousands are slow to show."""
    x, y = np.column_stack([at, at, np.full_like(at, np.nan)]).reshape(-1, 2).T
    ax.plot(x, y, "-", solid_capstyle="round", **style)


@mpl.rc_context({**STYLE, "path.simplify": False})
def strips(tables: Mapping[str, pd.DataFrame], metric: Metric) -> bytes:
    """A panel per dataset: a dot per seed of each method, a bar for their mean. Tables are datasets x seeds."""
    shown = dict(list(tables.items())[:MOST_METHODS])
    datasets = list(dict.fromkeys(name for table in shown.values() for name in table.index))
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = Figure(figsize=(1.9 + 2.5 * columns, rows * (0.8 + 0.2 * len(shown))), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for number, (ax, dataset) in enumerate(zip(axes.flat, datasets, strict=False)):
        found = [
            (y, table.loc[dataset].dropna().to_numpy())
            for y, table in enumerate(shown.values())
            if dataset in table.index
        ]
        for color, part in (
            (COLORS[1], [of for of in found if of[0] == 0]),
            (COLORS[0], [of for of in found if of[0]]),
        ):
            for layer in range(LAYERS if part else 0):  # within one of them dots that overlap do not add up
                dots = [(x, y) for y, values in part for x in values[layer::LAYERS]]
                _dots(ax, np.array(dots).reshape(-1, 2), color=color, alpha=0.5, lw=4.5)
            if part:
                means = [values.mean() for _, values in part]
                ax.plot(means, [y for y, _ in part], "|", color=color, markersize=10, mew=2)
        ax.set_title(_short(str(dataset)), fontsize=10, loc="left")
        if number % columns == 0:
            ax.set_yticks(range(len(shown)), map(_short, shown), fontsize=9)
        else:  # an axis that others share would draw its ticks once more
            ax.set_yticks([])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.tick_params(length=0, labelsize=9)
        ax.grid(axis="x", color="0.92", lw=0.8)
        ax.hlines(range(len(shown)), 0, 1, transform=ax.get_yaxis_transform(), color="0.92", lw=0.8, zorder=0)
    for ax in axes.flat[len(datasets) :]:
        ax.set_axis_off()
    figure.supxlabel(f"{metric_name(metric)} (%)", fontsize=10)
    return as_svg(figure)


@mpl.rc_context(STYLE)
def profiles(tables: Mapping[str, pd.DataFrame], metric: Metric) -> bytes:
    """The share of runs above a score, a curve per method; the first methods only, each with a colour of its own."""
    shown = {method: table.dropna().to_numpy() for method, table in list(tables.items())[: len(COLORS)]}
    everything = np.concatenate([values.ravel() for values in shown.values()])
    at = np.linspace(everything.min() - 0.5, everything.max() + 0.5, 200)
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    ax = figure.subplots()
    for number, (method, values) in enumerate(shown.items()):
        style = "-" if number == 0 else ("--", "-.", ":")[number % 3]
        ax.plot(at, 100 * profile(values, at), style, color=COLORS[number], lw=2, label=_short(method))
    ax.set_xlabel(f"{metric_name(metric)} (%)")
    ax.set_ylabel("runs above it (%)")
    ax.grid(color="0.92", lw=0.8)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
    return as_svg(figure)


@mpl.rc_context(STYLE)
def critical_difference_diagram(found: RankComparison, methods: Sequence[str], title: str) -> bytes:
    """Mean ranks; a bar joins methods that Nemenyi's test does not tell apart. `found` holds that test."""
    assert found.nemenyi is not None
    figure = Figure(figsize=(8.2, 1.2 + 0.28 * len(methods)))
    ax = figure.subplots()
    drawn = scikit_posthocs.critical_difference_diagram(
        dict(zip(methods, found.mean_ranks.tolist(), strict=True)),
        pd.DataFrame(found.nemenyi, index=list(methods), columns=list(methods)),
        ax=ax,
        label_props={"fontsize": 10},
        crossbar_props={"color": "black", "linewidth": 3},
        color_palette=dict.fromkeys(methods, "black"),
    )
    for line in (line for bar in drawn["crossbars"] for line in bar):
        line.set_xdata(sorted(line.get_xdata()))  # drawn in the order of a set, another one in every process
    title = f"{title}: mean rank (1 is best), critical difference {found.critical_difference:.2f}"
    ax.set_title(title, fontsize=10, pad=12)
    return as_svg(figure)


@mpl.rc_context(STYLE)
def transfer(matrix: pd.DataFrame, metric: Metric) -> bytes:
    """Auxiliary x target as a table of colours, values printed in; *: trained on."""
    values = matrix.to_numpy(dtype=float)
    figure = Figure(figsize=(3.2 + 1.0 * matrix.shape[1], 1.5 + 0.45 * matrix.shape[0]), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:.1f}" + ("*" if matrix.index[i] == matrix.columns[j] else "")
            ax.text(j, i, text, ha="center", va="center", color="white" if value < middle else "black")
    ax.set_xticks(range(matrix.shape[1]), map(_short, matrix.columns), rotation=25, ha="right")
    ax.set_yticks(range(matrix.shape[0]), map(_short, matrix.index))
    ax.set_xlabel("target")
    ax.set_ylabel("auxiliary")
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, fraction=0.05, label=f"{metric_name(metric)} (%)")
    return as_svg(figure)


@mpl.rc_context(STYLE)
def shift_scatter(distance: pd.DataFrame, performance: pd.DataFrame, metric: Metric) -> bytes:
    """Performance against distance: a point per pair, its colour the auxiliary dataset and its marker the target."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    ax = figure.subplots()
    for i, auxiliary in enumerate(distance.index):
        for j in range(distance.shape[1]):
            x, y = (table.to_numpy(dtype=float)[i, j] for table in (distance, performance))
            ax.plot([x], [y], MARKERS[j % len(MARKERS)], color=COLORS[i % len(COLORS)], markersize=7)
        ax.plot([], [], "-", lw=5, color=COLORS[i % len(COLORS)], label=f"from {_short(str(auxiliary))}")
    for j, target in enumerate(distance.columns):
        ax.plot([], [], MARKERS[j % len(MARKERS)], color="0.4", label=f"to {_short(str(target))}")
    ax.set_xlabel(f"Fréchet distance of {'images' if metric[0] == 'image' else 'patches'} (unit features)")
    ax.set_ylabel(f"{metric_name(metric)} (%)")
    ax.grid(color="0.92", lw=0.8)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1))
    return as_svg(figure)


@mpl.rc_context(STYLE)
def latents(content: Health) -> bytes:
    """Left: posterior means of images in the plane of their principal components, and the prior. Right: KL spectrum."""
    explained = [100 * share for share in content.projection.explained]
    kl = np.array(content.kl)
    figure = Figure(figsize=(8.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, points) in enumerate(content.projection.points.items()):
        x, y = np.array(points, dtype=float).reshape(-1, 2).T
        marker, color = MARKERS[number % len(MARKERS)], COLORS[number % len(COLORS)]
        left.plot(x, y, marker, color=color, alpha=0.6, markersize=4, mew=0, label=f"{_short(name)} ({len(x)})")
    radius = float(np.sqrt(stats.chi2.ppf(0.95, 2)))
    left.add_patch(Circle((0, 0), radius, fill=False, ls="--", color="0.4", label="prior, 95 %"))
    left.set_aspect("equal", adjustable="datalim")
    left.autoscale_view()
    left.set_xlabel(f"first component ({explained[0]:.0f} % of variance)")
    left.set_ylabel(f"second component ({explained[1]:.0f} %)")
    left.set_title("posterior means, a dot per image (n)", fontsize=10)
    right.plot(np.arange(1, len(kl) + 1), kl, color=COLORS[0], lw=1.8)
    right.set_ylim(0, max(1e-3, 1.05 * float(kl.max())))
    right.set_xlabel(f"latent dimension, sorted (of {len(kl)})")
    right.set_ylabel("KL (nats, mean over images)")
    right.set_title(f"{kl.sum():.3g} nats in all", fontsize=10)
    right.grid(color="0.92", lw=0.8)
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside lower left", ncols=3)
    return as_svg(figure)


@mpl.rc_context(STYLE)
def variance(rows: pd.DataFrame, metric: Metric) -> bytes:
    """Standard deviation that each source brings by itself, in points; a line per method and auxiliary dataset.

    The latter is named where a method has several.
    """
    rows = rows.head(MOST_METHODS)
    figure = Figure(figsize=(7.4, 0.9 + 0.28 * len(rows)), layout="constrained")
    ax = figure.subplots()
    labels = {"seed": "seed", "interaction": "seed and dataset", "draw": "latent draw, on a sample"}
    for number, (part, label) in enumerate(labels.items()):
        ax.plot(
            rows[part].astype(float),
            range(len(rows)),
            MARKERS[number],
            color=COLORS[number],
            label=label,
            clip_on=False,  # a marker at 0 is whole
        )
    several = rows["method"].duplicated(keep=False)
    names = rows["method"] + (", on " + rows["auxiliary"]).where(several, "")
    ax.set_yticks(range(len(rows)), map(_short, names))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"standard deviation (points of {metric_name(metric)})")
    ax.tick_params(length=0)
    ax.grid(color="0.92", lw=0.8)
    figure.legend(fontsize=9, loc="outside upper left", ncols=3)
    return as_svg(figure)


@mpl.rc_context(STYLE)
def differences(rows: pd.DataFrame) -> bytes:
    """Of each row `difference`, in points, and where it would lie for one more seed, `low` to `high` less `published`.

    A panel per `called`, the metric, and a line per `name`, the dataset; one scale for all. Filled where `answer` is
    higher or lower.
    """
    panels = {str(called): of for called, of in rows.groupby("called", sort=False)}
    heights = [len(of) + 1.2 for of in panels.values()]
    figure = Figure(figsize=(4.6, 0.6 + 0.22 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    colors = {"higher": COLORS[0], "lower": COLORS[1]}
    reach = 1.0
    for ax, (called, of) in zip(axes, panels.items(), strict=True):
        ax.axvline(0, color="0.45", lw=1)
        for y, row in enumerate(of.to_dict("records")):
            color = colors.get(row["answer"], OF_VERDICT["undecided"])
            reach = max(reach, abs(row["difference"]))
            if pd.notna(row["low"]):
                bounds = [row["low"] - row["published"], row["high"] - row["published"]]
                ax.plot(bounds, [y, y], "-", color=color, lw=1.8)
                reach = max(reach, *(min(abs(bound), 3 * abs(row["difference"]) + 5) for bound in bounds))
            face = color if row["answer"] in colors else "white"
            ax.plot([row["difference"]], [y], "o", color=color, mfc=face, markersize=5.5, mew=1.5)
        ax.set_yticks(range(len(of)), map(_short, map(str, of["name"])), fontsize=9)
        ax.set_ylim(len(of) - 0.4, -0.6)
        ax.set_title(called, fontsize=10, loc="left")
        ax.tick_params(length=0, labelbottom=True, labelsize=9)
        ax.grid(axis="x", color="0.9", lw=0.8)
    axes[0].set_xlim(-1.04 * reach, 1.04 * reach)
    axes[-1].set_xlabel("ours less published, in points", fontsize=9)
    return as_svg(figure)
