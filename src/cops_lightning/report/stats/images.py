"""One pair of runs over the same images: is the difference of image AUROC more than chance of which images there are?

A dataset's image AUROC is the mean over its categories, so both functions take the category of every image. They speak
of other images of these categories, with the trained weights as they are: not of other seeds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from cops_lightning.report.stats.outcome import Outcome, too_few
from cops_lightning.report.stats.paired import ROUNDING, Interval

# Per category and label: fewer placements have no variance worth the name.
NEEDS_IMAGES = 5


@dataclass(frozen=True)
class AurocComparison:
    """Mean AUROC of A and of B over categories, A minus B with its 95 % interval, and the test of no difference."""

    a: float
    b: float
    difference: Interval
    test: Outcome


def delong(
    anomalous: Bool[np.ndarray, " n"],
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    categories: np.ndarray,
) -> AurocComparison:
    """DeLong's test for two correlated AUROCs, averaged over categories, which are independent of each other.

    Source: E. R. DeLong et al., Biometrics 44 (1988); placements by midranks as X. Sun and W. Xu, IEEE SPL 21 (2014).
    Raises ValueError if a category has a single label.
    """
    aurocs, variance, fewest, count = [], 0.0, len(anomalous), 0
    for label, pair in _by_category(anomalous, a, b, categories):
        m, n = int(label.sum()), int((~label).sum())
        ranks = [stats.rankdata(scores) for scores in pair]
        # Placement of an image: the share of images of the other label that it is ranked above (ties count half).
        positives = np.array([(r[label] - stats.rankdata(s[label])) / n for r, s in zip(ranks, pair, strict=True)])
        negatives = np.array(
            [1 - (r[~label] - stats.rankdata(s[~label])) / m for r, s in zip(ranks, pair, strict=True)]
        )
        aurocs.append(positives.mean(axis=1))
        fewest, count = min(fewest, m, n), count + 1
        if min(m, n) > 1:
            variance += (
                np.var(positives[0] - positives[1], ddof=1) / m + np.var(negatives[0] - negatives[1], ddof=1) / n
            )
    mean_a, mean_b = (float(x) for x in np.mean(aurocs, axis=0))
    error = float(np.sqrt(variance)) / count
    difference, name, unit = mean_a - mean_b, "DeLong", "images per category and label"
    if fewest < NEEDS_IMAGES:
        return AurocComparison(
            mean_a, mean_b, Interval(difference, None, None), too_few(name, unit, fewest, NEEDS_IMAGES)
        )
    if error < ROUNDING:
        test = Outcome(name, unit, fewest, NEEDS_IMAGES, why="both runs rank the images alike")
        return AurocComparison(mean_a, mean_b, Interval(difference, difference, difference), test)
    z = difference / error
    test = Outcome(name, unit, fewest, NEEDS_IMAGES, z, float(2 * stats.norm.sf(abs(z))))
    half = float(stats.norm.ppf(0.975)) * error
    return AurocComparison(mean_a, mean_b, Interval(difference, difference - half, difference + half), test)


def bootstrap_images(
    anomalous: Bool[np.ndarray, " n"],
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    categories: np.ndarray,
    resamples: int = 2000,
    seed: int = 0,
) -> AurocComparison:
    """The same by drawing images anew within category and label, the same for both runs: percentile interval.

    The p-value is twice the smaller share of resampled differences on either side of 0, with one added to each count.
    Raises ValueError if a category has a single label.
    """
    rng = np.random.default_rng(seed)
    aurocs, drawn, fewest = [], np.zeros(resamples), len(anomalous)
    groups = list(_by_category(anomalous, a, b, categories))
    for label, pair in groups:
        m, n = int(label.sum()), int((~label).sum())
        fewest = min(fewest, m, n)
        # How often each image is drawn weighs its comparisons with the images of the other label.
        weight_m, weight_n = (rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in (m, n))
        above = [
            (np.sign(scores[label][:, None] - scores[~label][None, :]) + 1) / 2  # 1 above, 1/2 tied, 0 below
            for scores in pair
        ]
        aurocs.append([matrix.mean() for matrix in above])
        drawn += np.einsum("rn,rn->r", weight_m @ (above[0] - above[1]), weight_n) / len(groups)
    mean_a, mean_b = (float(x) for x in np.mean(aurocs, axis=0))
    name, unit = "paired bootstrap", "images per category and label"
    if fewest < NEEDS_IMAGES:
        test = too_few(name, unit, fewest, NEEDS_IMAGES)
        return AurocComparison(mean_a, mean_b, Interval(mean_a - mean_b, None, None), test)
    low, high = np.quantile(drawn, [0.025, 0.975])
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (resamples + 1))
    test = Outcome(name, unit, fewest, NEEDS_IMAGES, mean_a - mean_b, p)
    return AurocComparison(mean_a, mean_b, Interval(mean_a - mean_b, float(low), float(high)), test)


def _by_category(
    anomalous: np.ndarray, a: np.ndarray, b: np.ndarray, categories: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    for category in np.unique(categories):
        inside = categories == category
        label = anomalous[inside]
        if label.all() or not label.any():
            raise ValueError(
                f"Category {category} has images of one label only ({len(label)} of them); AUROC compares two labels."
            )
        yield label, (a[inside], b[inside])
