"""Thresholds for an aim, where some images are known to be anomalous: a recall, the best F1, the least cost."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from cops_lightning.calibration.conformal import CONFIDENCE, needed, permitted, proportion_interval

Aim = Literal["recall", "f1", "cost"]
RESAMPLES = 1000
_AT_ONCE = 2**20  # counts of a bootstrap in memory


@dataclass(frozen=True)
class Chosen:
    """A threshold, and what it achieves on the images that it was chosen by.

    `value` is the F1, the cost an image, or the recall. The 95 % intervals of `threshold` and `value` are percentiles
    of a bootstrap that chooses anew in every resample; those of a recall are exact (Clopper and Pearson for the recall,
    order statistics for the threshold). F1 and cost were optimised on these very images, so they are optimistic.
    """

    aim: Aim
    threshold: float
    threshold_interval: tuple[float, float]
    value: float
    value_interval: tuple[float, float]
    recall: float
    false_alarms: float


@dataclass(frozen=True)
class Weighing:
    """What a threshold is to achieve.

    Args:
        recall: the share of anomalous images to find.
        false_alarm: what a false alarm costs.
        miss: what a missed anomalous image costs.
        anomalous_share: the share of anomalous images where the threshold is used, for F1 and cost; None is that of the
            labelled images.
    """

    recall: float = 0.95
    false_alarm: float = 1.0
    miss: float = 10.0
    anomalous_share: float | None = None


@dataclass(frozen=True)
class Labelled:
    """Sorted scores of normal and of anomalous images, at least one of each. Thresholds are called by scores above."""

    normal: Float[np.ndarray, " n"]
    anomalous: Float[np.ndarray, " a"]
    weighing: Weighing

    def threshold(self, aim: Aim) -> float | None:
        """The threshold for an aim; None for a recall for which there are too few anomalous images."""
        if aim == "recall":
            misses = permitted(len(self.anomalous), self._missed)
            return below(self.anomalous[misses - 1]) if misses else None
        return float(self._cuts[self._best(aim, *(counts[None] for counts in self._counts))[0][0]])

    @property
    def needed(self) -> int:
        """The fewest anomalous images that the recall needs."""
        return needed(self._missed)

    @property
    def _missed(self) -> float:
        return round(1 - self.weighing.recall, 12)  # 1 - 0.9 is less than 0.1

    def chosen(self, aim: Aim) -> Chosen | None:
        """The threshold for an aim with its intervals; None where `threshold` is None."""
        cut = self.threshold(aim)
        if cut is None:
            return None
        found = int((self.anomalous > cut).sum())
        recall, alarms = found / len(self.anomalous), float((self.normal > cut).mean())
        if aim == "recall":
            interval = proportion_interval(found, len(self.anomalous))
            return Chosen(aim, cut, self._quantile_interval(), recall, interval, recall, alarms)
        _, value = self._best(aim, *(counts[None] for counts in self._counts))
        cuts, values = self._bootstrap(aim)
        tails = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
        low, high = np.percentile(self._cuts[cuts], tails, method="nearest")
        lowest, highest = np.percentile(values, tails)
        return Chosen(
            aim, cut, (float(low), float(high)), float(value[0]), (float(lowest), float(highest)), recall, alarms
        )

    @cached_property
    def _distinct(self) -> Float[np.ndarray, " u"]:
        return np.unique(np.concatenate([self.normal, self.anomalous]))

    @cached_property
    def _cuts(self) -> Float[np.ndarray, " c"]:
        """Below all scores, in the middle between neighbours, and at the highest: the i-th is above i of them."""
        scores = self._distinct
        return np.concatenate([[below(scores[0])], (scores[:-1] + scores[1:]) / 2, scores[-1:]])

    @cached_property
    def _counts(self) -> tuple[np.ndarray, np.ndarray]:
        """How many normal and anomalous images have each distinct score."""
        size = len(self._distinct)
        normal, anomalous = (
            np.bincount(np.searchsorted(self._distinct, of), minlength=size) for of in (self.normal, self.anomalous)
        )
        return normal, anomalous

    def _best(self, aim: Aim, normal: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which cut is best for every row of counts, and its value; the highest among equals."""
        share = self.weighing.anomalous_share
        n, a = len(self.normal), len(self.anomalous)
        share = a / (n + a) if share is None else share
        alarms, found = (_from_above(counts) / counts.sum(axis=1, keepdims=True) for counts in (normal, anomalous))
        alarms, found = (1 - share) * alarms, share * found
        if aim == "f1":
            values = 2 * found / (found + alarms + share)
        else:
            values = -(self.weighing.false_alarm * alarms + self.weighing.miss * (share - found))
        last = values.shape[1] - 1 - np.argmax(values[:, ::-1], axis=1)
        best = values[np.arange(len(values)), last]
        return last, best if aim == "f1" else -best

    def _bootstrap(self, aim: Aim) -> tuple[np.ndarray, np.ndarray]:
        """Cuts and values over resamples of normal images and, apart from them, of anomalous ones."""
        rng, found = np.random.default_rng(0), []
        step = max(1, _AT_ONCE // len(self._distinct))
        for start in range(0, RESAMPLES, step):
            rows = min(step, RESAMPLES - start)
            drawn = (rng.multinomial(of.sum(), of / of.sum(), size=rows) for of in self._counts)
            found.append(self._best(aim, *drawn))
        cuts, values = zip(*found, strict=True)
        return np.concatenate(cuts), np.concatenate(values)

    def _quantile_interval(self) -> tuple[float, float]:
        """Order statistics between which the score lies that a share of `recall` of all anomalous images exceeds;
        infinite where there is no bound.
        """
        bounded = np.concatenate([[-np.inf], self.anomalous, [np.inf]])
        tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
        first, last = stats.binom.ppf(tails, len(self.anomalous), self._missed).astype(int)
        return float(bounded[first]), float(bounded[last + 1])


def below(score: float) -> float:
    """The next lower number of single precision, in which detectors score: a score is above it if it is at least
    `score`.
    """
    return float(np.nextafter(np.float32(score), np.float32(-np.inf)))


def _from_above(counts: np.ndarray) -> np.ndarray:
    """Of every row, sums from each place to the end, and 0."""
    sums = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([sums, np.zeros((len(counts), 1), sums.dtype)], axis=1)
