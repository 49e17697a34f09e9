"""What the figures of the report and of a calibration share: one style, and SVG of equal bytes for equal content."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision tell apart; markers differ too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # names are text, whatever is in them
    "svg.hashsalt": "cops",  # equal content, equal bytes
    "svg.fonttype": "none",  # text stays text; as outlines, their order would differ from process to process
}


def as_svg(figure: Figure) -> bytes:
    """A figure as a file's bytes."""
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    bounds = None if figure.get_layout_engine() else "tight"  # which draws everything once more
    figure.savefig(buffer, format="svg", bbox_inches=bounds, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def score_histograms(panels: Sequence[tuple[str, Sequence[float], Sequence[float], float | None]]) -> bytes:
    """A panel for each name, scores of normal and of anomalous images, and threshold: shares in bins of one width."""
    figure = Figure(figsize=(4.3 * len(panels), 3.1), layout="constrained")
    for number, (ax, (name, normal, anomalous, cut)) in enumerate(
        zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)
    ):
        everything = [*normal, *anomalous, *([] if cut is None else [cut])]
        low, high = min(everything), max(everything)
        edges = np.linspace(low, high if high > low else low + 1e-3, 31)
        kinds = (("normal", normal, COLORS[0], "stepfilled"), ("anomalous", anomalous, COLORS[1], "step"))
        for kind, values, color, drawn in kinds:
            if len(values):
                share = np.full(len(values), 100 / len(values))
                ax.hist(values, edges, weights=share, histtype=drawn, color=color, alpha=0.75, lw=1.6, label=kind)
        title = f"{len(normal)} normal" + (f", {len(anomalous)} anomalous" if len(anomalous) else "")
        if cut is not None:
            ax.axvline(cut, color="black", lw=1.4, ls="--", label=f"threshold {cut:.4g}")
        ax.set_title(f"{title} images" + ("" if cut is not None else ": too few for a threshold"), fontsize=10)
        ax.set_xlabel(name)
        ax.set_ylabel("images (%)" if number == 0 else "")
        ax.grid(axis="y", color="0.92", lw=0.8)
        ax.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2))  # inside it would lie over the threshold
    return as_svg(figure)
