"""What W&B shows of an evaluation: charts of curves, and overlays of anomaly maps."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import wandb
from jaxtyping import Float, UInt8
from PIL import Image

from cops_lightning.metrics.curves import CategoryCurves
from cops_lightning.report.figures import Example

# An overlay has classes, not shades: the fixed scale of the anomaly maps is cut into so many.
BANDS = 10


def charts(curves: Sequence[CategoryCurves]) -> dict[str, Any]:
    """A ROC and a precision-recall chart per target and level, a line per category, by TARGET/LEVEL_roc and _pr."""
    roc: dict[str, list[Iterable[Any]]] = {}
    precision_recall: dict[str, list[Iterable[Any]]] = {}
    for found in curves:
        key, c = f"{found.target}/{found.level}", found.curves
        pairs = zip(c.false_positive_rate.tolist(), c.true_positive_rate.tolist(), strict=True)
        roc.setdefault(key, []).extend([found.category, x, y] for x, y in pairs)
        pairs = zip(c.recall.tolist(), c.precision.tolist(), strict=True)
        precision_recall.setdefault(key, []).extend([found.category, x, y] for x, y in pairs)
    return {
        f"{key}_{kind}": wandb.plot.line(
            wandb.Table(columns=["category", x, y], data=lines), x, y, stroke="category", title=f"{key} {title}"
        )
        for kind, title, x, y, found_lines in (
            ("roc", "ROC", "false_positive_rate", "true_positive_rate", roc),
            ("pr", "precision-recall", "recall", "precision", precision_recall),
        )
        for key, lines in found_lines.items()
    }


def overlay(example: Example, scale: tuple[float, float]) -> wandb.Image:
    """An image with its anomaly map, and its ground truth if there is one, as overlays to switch on and off."""
    low, high = scale
    edges = np.linspace(low, high, BANDS + 1)
    height, width = example.image.shape[:2]
    masks: dict[str, Any] = {
        "anomaly_map": {
            "mask_data": bands(_resized(example.map, width, height, Image.Resampling.BILINEAR), scale),
            "class_labels": {band: f"score {edges[band]:.2f} to {edges[band + 1]:.2f}" for band in range(BANDS)},
        }
    }
    if example.mask is not None:
        truth = _resized(example.mask.astype(np.float32), width, height, Image.Resampling.NEAREST)
        masks["ground_truth"] = {"mask_data": truth.astype(np.uint8), "class_labels": {0: "normal", 1: "anomalous"}}
    return wandb.Image(example.image, masks=masks, caption=f"{example.name}: {example.caption}")


def bands(scores: Float[np.ndarray, "h w"], scale: tuple[float, float]) -> UInt8[np.ndarray, "h w"]:
    """Which of the equal parts of the scale each score lies in, from 0; scores off the scale are in its ends."""
    low, high = scale
    return np.clip((scores - low) / (high - low) * BANDS, 0, BANDS - 1).astype(np.uint8)


def _resized(
    values: Float[np.ndarray, "a b"], width: int, height: int, how: Image.Resampling
) -> Float[np.ndarray, "h w"]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), how))
