"""ROC and precision-recall curves to look at: thinned to a few points, each of which lies on the exact curve."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cops_lightning.core.measured import Level
from cops_lightning.metrics.pixels import LOW_BITS, Expand, PixelSource

POINTS = 200


@dataclass(frozen=True)
class RankingCurves:
    """Both curves of one ranking, in the order of falling thresholds; all values lie in [0, 1]."""

    false_positive_rate: Float[np.ndarray, " roc"]
    true_positive_rate: Float[np.ndarray, " roc"]
    recall: Float[np.ndarray, " pr"]
    precision: Float[np.ndarray, " pr"]


@dataclass(frozen=True)
class CategoryCurves:
    """The curves of one category of a target, of its images or of its pixels."""

    target: str
    category: str
    level: Level
    curves: RankingCurves


def image_curves(
    normal: Float[np.ndarray, " n"], anomalous: Float[np.ndarray, " a"], points: int = POINTS
) -> RankingCurves | None:
    """Curves of scores held in memory, such as one score per image; None without normal or anomalous items."""
    if normal.size == 0 or anomalous.size == 0:
        return None
    levels, where = np.unique(np.concatenate([normal, anomalous]), return_inverse=True)
    counts = [np.bincount(part, minlength=levels.size) for part in np.split(where, [normal.size])]
    return curves_of_counts(counts[0][::-1], counts[1][::-1], points)


def pixel_curves(
    patches: Float[Tensor, "n p"], masks: UInt8[np.ndarray, "n bytes"], expand: Expand, points: int = POINTS
) -> RankingCurves | None:
    """Curves over all pixels of at least one image, made as for `pixels.pixel_scores`, in one pass over the maps.

    Pixels are counted in bins of scores, of which there are 2048 between 0.5 and 1, as many between 0.25 and 0.5, and
    so on down; a threshold is the edge of a bin, so its point is exact. None without normal or anomalous pixels.
    """
    source = PixelSource(patches, masks, expand)
    bins = 2 ** (32 - LOW_BITS)
    counts = np.zeros((2, bins), np.int64)
    for index in range(len(patches)):
        binned, mask = (source.keys(index) >> LOW_BITS).astype(np.int64), source.mask(index)
        for label, chosen in ((0, binned[~mask]), (1, binned[mask])):
            if chosen.size:
                counts[label] += np.bincount(chosen, minlength=bins)
    if not counts.any(axis=1).all():
        return None
    used = np.flatnonzero(counts.any(axis=0))[::-1]
    return curves_of_counts(counts[0, used], counts[1, used], points)


def curves_of_counts(normal: Int[np.ndarray, " n"], anomalous: Int[np.ndarray, " n"], points: int) -> RankingCurves:
    """Curves from how many normal and anomalous items have each score, highest score first; at least one of both."""
    false, true = np.cumsum(normal), np.cumsum(anomalous)
    recall = true / true[-1]
    roc = _thin(np.append(0.0, false / false[-1]), np.append(0.0, recall), points)
    precision_recall = _thin(recall, true / (true + false), points)
    return RankingCurves(*roc, *precision_recall)


def _thin(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], points: int
) -> tuple[Float[np.ndarray, " kept"], Float[np.ndarray, " kept"]]:
    """A curve's points, or some `points` of more: its ends, and others evenly spaced along its length |dx| + |dy|."""
    if x.size <= points:
        return x, y
    length = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
    return x[kept], y[kept]
