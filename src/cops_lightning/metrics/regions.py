"""AUPRO: how much of every defect is found while few normal pixels are reported.

As the evaluation of MVTec AD defines it (Bergmann et al., IJCV 2021): a region is an 8-connected component of a
ground-truth mask; PRO at a threshold is the mean, over the regions of all images, of the fraction of the region that
is reported; it is integrated over the rate of reported normal pixels up to 0.3, and divided by 0.3.

A pixel of a region of area A thus adds 1 / A to the sum of fractions, and PRO becomes a cumulative sum over pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy import ndimage

FPR_LIMIT = 0.3


def region_weights(mask: Bool[np.ndarray, "s s"]) -> Float64[np.ndarray, " n"]:
    """1 / (area of its region) for each anomalous pixel, in row-major order."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
    of_pixel = labels[mask]
    return 1.0 / np.bincount(of_pixel)[of_pixel] if of_pixel.size else np.empty(0)


@dataclass
class RegionAccumulator:
    """Streams the curve of PRO over the false positive rate into its area up to `fpr_limit`, in constant memory."""

    n_normal: int
    fpr_limit: float = FPR_LIMIT
    _reached: int = 0
    _covered: float = 0.0
    _area: float = 0.0

    def __post_init__(self) -> None:
        if self.n_normal < 1:
            raise ValueError(f"AUPRO needs normal pixels, got {self.n_normal}. It is undefined: report None.")

    def extend(
        self, above: Int[np.ndarray, " n"], reached: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"]
    ) -> None:
        """Continue by the next distinct anomalous scores, in descending order.

        `above` and `reached` count normal pixels as in `ranking`; `weights` sums the weights of the anomalous pixels
        with exactly that score.
        """
        if weights.size == 0:
            return
        limit = self.fpr_limit * self.n_normal
        covered = self._covered + np.cumsum(weights)
        covered_before = np.concatenate(([self._covered], covered[:-1]))
        # Per score the curve first runs flat to `above`, then climbs to `reached` over the normal pixels tied with it.
        start = np.minimum(np.concatenate(([self._reached], reached[:-1])), limit)
        turn = np.minimum(above, limit)
        end = np.minimum(reached, limit)
        climbed = np.divide(end - turn, reached - above, out=np.zeros_like(covered), where=reached > above)
        height_at_end = covered_before + climbed * (covered - covered_before)
        self._area += float(np.dot(covered_before, turn - start))
        self._area += float(np.dot((covered_before + height_at_end) / 2, end - turn))
        self._reached, self._covered = int(reached[-1]), float(covered[-1])

    def result(self) -> float:
        """AUPRO in [0, 1], once every anomalous score has been passed to `extend`; ValueError if none was.

        The weights of a region sum to 1, so what is covered in the end is the number of regions.
        """
        if self._covered == 0:
            raise ValueError("AUPRO needs at least one region, got none. It is undefined: report None.")
        limit = self.fpr_limit * self.n_normal
        rest = max(limit - self._reached, 0.0)
        return (self._area + rest * self._covered) / (limit * self._covered)
