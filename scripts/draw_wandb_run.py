"""Draw what a run holds in Weights & Biases, from the file that keeps it offline: the pictures of the page on W&B."""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from cops_lightning.core.measured import MEAN
from cops_lightning.loggers.wandb_logger import STEP
from cops_lightning.loggers.wandb_media import BANDS
from cops_lightning.report.figures import COLORS as OF_SCORES
from cops_lightning.report.figures import OPACITY, OUTLINE
from cops_lightning.report.plots import COLORS, STYLE
from documentation.offline_runs import OfflineRun, attempts

WIDTH = 4.8  # inches: at 390 px the letters of a page that wide can still be read
LONGEST = 36  # characters of a value that is stated
MOST_POINTS = 250  # of a line, evenly spaced
IDENTITY = ("target", "category", "n_normal", "n_anomalous")
METRICS = ("image_auroc", "pixel_auroc", "pixel_aupro")  # of the table, which has seven
WIDEST = 50  # the ratio of a chart's values from which on its scale is logarithmic
EXAMPLES = {"normal": 1, "anomalous": 3}
RATES, RECALL = ("false_positive_rate", "true_positive_rate"), ("recall", "precision")
CHARTS = {"image_roc": RATES, "image_pr": RECALL, "pixel_roc": RATES, "pixel_pr": RECALL}


def draw(run: OfflineRun, folder: Path) -> None:
    """Write the pictures of a run that trained and tested."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({**STYLE, "font.size": 9, "svg.hashsalt": "wandb"}):
        save(stated(filed(run)), folder / "filed.svg")
        save(charts(run, "train/", "_step"), folder / "losses.svg")
        save(charts(run, "similarity/", ""), folder / "similarity.svg")
        save(results(run.table("results")), folder / "results.svg")
        save(curves(run), folder / "curves.svg")
        save(overlays(run), folder / "heatmaps.png")


def save(figure: Figure, path: Path) -> None:
    """Write a figure; a PNG in 128 colours."""
    if path.suffix == ".svg":
        FigureCanvasSVG(figure)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        return
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(128).save(path, optimize=True)


def filed(run: OfflineRun) -> Iterable[tuple[str, str, str]]:
    """What the run is filed under, by kind and name: its own lines, settings, how it ended, its files."""
    of, config, summary = run.run(), run.config(), run.summary()
    yield "run", "name", of.display_name
    yield "", "group, job type", f"{of.run_group}, {of.job_type}"
    for at, tag in enumerate(of.tags):
        yield "", "" if at else "tags", tag
    settings = {key: value for key, value in config.items() if key != "provenance" and not key.startswith("_wandb")}
    for at, (key, value) in enumerate(sorted(settings.items())):
        yield "" if at else "config", key, ", ".join(value) if value and isinstance(value, dict) else json.dumps(value)
    yield "", "provenance", ", ".join(config["provenance"])
    for at, key in enumerate(("status", "duration_seconds")):
        yield "" if at else "summary", key, str(summary[key])
    for artifact in run.artifacts():
        yield "artifact", artifact.type, ", ".join(sorted(entry.path for entry in artifact.manifest.contents))
        yield "", "aliases", ", ".join(artifact.aliases)


def stated(lines: Iterable[tuple[str, str, str]]) -> Figure:
    """Lines of a kind, a name and a value."""
    rows = list(lines)
    figure, height = sheet(len(rows))
    for row, (kind, name, value) in enumerate(rows):
        y = 1 - (row + 1) * height
        figure.text(0.02, y, kind, weight="bold")
        figure.text(0.17, y, name)
        figure.text(0.43, y, value if len(value) <= LONGEST else value[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}")
    return figure


def results(table: Sequence[dict[str, Any]]) -> Figure:
    """The table of results: a line for each target and category."""
    figure, height = sheet(len(table) + 2)
    places = (0.02, 0.28, 0.59, 0.69, 0.79, 0.89, 0.99)
    names = ("target", "category", "normal", "anom.", "image\nAUROC", "pixel\nAUROC", "pixel\nAUPRO")
    for row, line in enumerate([None, *table]):
        for column, (x, name) in enumerate(zip(places, names, strict=True)):
            value = name if line is None else line[(*IDENTITY, *METRICS)[column]]
            text = f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
            bold = line is None or line["category"] == MEAN
            figure.text(
                x,
                1 - (row + 2) * height,
                text,
                ha="left" if column < 2 else "right",
                weight="bold" if bold else "normal",
                size=8,
            )
    return figure


def sheet(lines: int) -> tuple[Figure, float]:
    """A figure for so many lines of text, and the height of one as a part of its own."""
    inches = 0.19 * (lines + 1)
    return Figure(figsize=(WIDTH, inches)), 0.19 / inches


def charts(run: OfflineRun, start: str, end: str) -> Figure:
    """A chart for each key that starts and ends so, over the step of the optimiser."""
    history = run.history()
    keys = sorted({key for line in history for key in line if key.startswith(start) and key.endswith(end)})
    keys = [key for key in keys if not key.endswith("_epoch")]
    rows = -(-len(keys) // 2)
    figure = Figure(figsize=(WIDTH, 1.35 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).flatten()
    for ax, key in zip(axes, keys, strict=False):
        points = [(line[STEP], line[key]) for line in history if key in line]
        points = points[:: -(-len(points) // MOST_POINTS)]
        ax.plot(*zip(*points, strict=True), color=COLORS[0], lw=1, marker="o" if len(points) < 20 else None, ms=3)
        values = [value for _, value in points]
        if 0 < WIDEST * min(values) < max(values):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
        ax.set_title(key, fontsize=9)
    for ax in axes[len(keys) :]:
        ax.set_axis_off()
    figure.supxlabel(STEP, fontsize=9)
    return figure


def curves(run: OfflineRun) -> Figure:
    """The four charts of curves of the first target: a line per category."""
    target = run.table("results")[0]["target"]
    figure = Figure(figsize=(WIDTH, WIDTH + 0.6), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, (chart, (x, y)) in zip(axes.flatten(), CHARTS.items(), strict=True):
        points = run.table(f"{target}/{chart}_table")
        for color, category in zip(COLORS, dict.fromkeys(point["category"] for point in points), strict=False):
            of = [point for point in points if point["category"] == category]
            ax.plot([point[x] for point in of], [point[y] for point in of], color=color, lw=1.2, label=category)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
        ax.set_title(f"{target}/{chart}", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def overlays(run: OfflineRun) -> Figure:
    """Images of the first target: as they are, with the anomaly map switched on, and with the ground truth."""
    summary = run.summary()
    key = f"{run.table('results')[0]['target']}/heatmaps"
    found = list(zip(summary[f"{key}/filenames"], summary[f"{key}/all_masks"], summary[f"{key}/captions"], strict=True))
    shown = [
        example
        for label, count in EXAMPLES.items()
        for example in [one for one in found if f": {label}, " in one[2]][:count]
    ]
    figure = Figure(figsize=(WIDTH, 1.55 * len(shown)), dpi=100, layout="constrained")
    axes = figure.subplots(len(shown), 3, squeeze=False)
    for row, (file, masks, caption) in zip(axes, shown, strict=True):
        image = Image.open(run.files / file).convert("RGB")
        for ax, mask in zip(row, (None, "anomaly_map", "ground_truth"), strict=True):
            ax.imshow(image)
            ax.set_axis_off()
            if mask in masks:
                classes = np.asarray(Image.open(run.files / masks[mask]["path"]))
                if mask == "anomaly_map":
                    ax.imshow(classes, cmap=OF_SCORES, vmin=0, vmax=BANDS - 1, alpha=OPACITY, interpolation="nearest")
                elif classes.any():
                    ax.contour(classes, [0.5], colors=OUTLINE, linewidths=1.5)
        row[0].set_title(caption.rpartition(": ")[2], fontsize=8, loc="left")
    for ax, mask in zip(axes[0, 1:], ("anomaly_map", "ground_truth"), strict=True):
        ax.set_title(mask, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run with logger=wandb that is kept offline")
    parser.add_argument("out", type=Path, help="where the pictures go")
    given = parser.parse_args()
    if not (found := attempts(given.run)):
        raise SystemExit(f"error: {given.run} holds no offline run of W&B; make one with logger.wandb.offline=true.")
    draw(found[-1], given.out)


if __name__ == "__main__":
    main()
