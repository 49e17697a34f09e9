"""AUROC, AP and F1-max of a ranking, exact and with ties merged, accumulated from the highest score down.

Only the distinct scores of anomalous items matter: between two of them the true positives stand still, so ROC runs
flat, average precision gains nothing and F1 falls. A ranking is therefore summed up, per distinct anomalous score and
in descending order, by three numbers:

    above    normal items with a strictly higher score
    reached  normal items with at least this score (the difference to `above` is tied with it)
    hits     anomalous items with exactly this score
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class RankingScores(NamedTuple):
    """Threshold-free quality of a ranking, each in [0, 1]."""

    auroc: float
    ap: float
    f1_max: float


@dataclass
class RankingAccumulator:
    """Streams ROC and precision-recall curves into AUROC, AP and F1-max, in constant memory.

    `n_normal` and `n_anomalous` are the totals, both at least 1: without one of the two nothing is ranked.
    """

    n_normal: int
    n_anomalous: int
    _reached: int = 0
    _found: int = 0
    _roc_area: float = 0.0
    _precision_sum: float = 0.0
    _f1_max: float = 0.0

    def __post_init__(self) -> None:
        if self.n_normal < 1 or self.n_anomalous < 1:
            raise ValueError(
                f"A ranking needs normal and anomalous items, got {self.n_normal} and {self.n_anomalous}. "
                "Its metrics are undefined: report None."
            )

    def extend(self, above: Int[np.ndarray, " n"], reached: Int[np.ndarray, " n"], hits: Int[np.ndarray, " n"]) -> None:
        """Continue by the next distinct anomalous scores, in descending order (see the module for the arguments)."""
        if hits.size == 0:
            return
        found = self._found + np.cumsum(hits)
        found_before = found - hits
        flat = above - np.concatenate(([self._reached], reached[:-1]))
        tied = reached - above
        self._roc_area += float(np.dot(found_before.astype(np.float64), flat))
        self._roc_area += float(np.dot((found_before + found) / 2, tied))
        self._precision_sum += float(np.dot(found / (found + reached), hits))
        self._f1_max = max(self._f1_max, float(np.max(2 * found / (found + reached + self.n_anomalous))))
        self._reached, self._found = int(reached[-1]), int(found[-1])

    def result(self) -> RankingScores:
        """The metrics, once every anomalous score has been passed to `extend`; ValueError before."""
        if self._found != self.n_anomalous:
            raise ValueError(f"Only {self._found} of {self.n_anomalous} anomalous items were ranked so far.")
        area = self._roc_area + float(self.n_anomalous) * (self.n_normal - self._reached)
        return RankingScores(
            auroc=area / (float(self.n_anomalous) * self.n_normal),
            ap=self._precision_sum / self.n_anomalous,
            f1_max=self._f1_max,
        )


def ranking_scores(normal: Float[np.ndarray, " n"], anomalous: Float[np.ndarray, " a"]) -> RankingScores | None:
    """The metrics of scores held in memory, such as one score per image; None without normal or anomalous items."""
    if normal.size == 0 or anomalous.size == 0:
        return None
    scores, hits = np.unique(anomalous, return_counts=True)
    normal = np.sort(normal)
    accumulator = RankingAccumulator(normal.size, anomalous.size)
    above = normal.size - np.searchsorted(normal, scores, side="right")
    reached = normal.size - np.searchsorted(normal, scores, side="left")
    accumulator.extend(above[::-1], reached[::-1], hits[::-1])
    return accumulator.result()
