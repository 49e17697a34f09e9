"""Two methods over the same images: images as a source of chance beside the seeds, in image AUROC.

A dataset's image AUROC is the mean over its categories, so the category of every image is asked for. The answer speaks
of other images of these categories, and of other seeds where there are several.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from cops_lightning.report.stats.crossed import Estimate, Source
from cops_lightning.report.stats.outcome import too_few

# Per category and label: fewer placements have no variance worth the name.
NEEDS_IMAGES = 5


@dataclass(frozen=True)
class AurocComparison:
    """Mean AUROC of A and of B over categories and seeds, and the estimate of A minus B; `why` there is none."""

    a: float
    b: float
    estimate: Estimate | None
    why: str = ""


def compare_aurocs(
    anomalous: Bool[np.ndarray, " n"],
    a: Float[np.ndarray, "seeds n"],
    b: Float[np.ndarray, "seeds n"],
    categories: np.ndarray,
) -> AurocComparison:
    """Compare scores of the same images, row by row of the same seed, averaged over categories and seeds.

    With one seed it is DeLong's test. With several, an image's placements are averaged over them, and the variance of
    the seeds is added to that of the images; what both contain counts twice, which errs on the side of caution.

    Sources: E. R. DeLong et al., Biometrics 44 (1988); placements by midranks as X. Sun and W. Xu, IEEE SPL 21 (2014);
    N. A. Obuchowski and H. E. Rockette, Communications in Statistics 24 (1995), for seeds as readers.
    Raises ValueError if a category has a single label.
    """
    aurocs, variance, fewest = [], 0.0, len(anomalous)
    names = np.unique(categories)
    for category in names:
        inside = categories == category
        label = anomalous[inside]
        m, n = int(label.sum()), int((~label).sum())
        if not (m and n):
            raise ValueError(
                f"Category {category} has images of one label only ({len(label)} of them); AUROC compares two labels."
            )
        pair = np.stack([a[:, inside], b[:, inside]])
        ranks = stats.rankdata(pair, axis=-1)
        # Placement of an image: the share of images of the other label that it is ranked above (ties count half).
        positives = (ranks[..., label] - stats.rankdata(pair[..., label], axis=-1)) / n
        negatives = 1 - (ranks[..., ~label] - stats.rankdata(pair[..., ~label], axis=-1)) / m
        aurocs.append(positives.mean(axis=-1))
        fewest = min(fewest, m, n)
        if min(m, n) > 1:
            for placed, size in ((positives, m), (negatives, n)):
                variance += float(np.var((placed[0] - placed[1]).mean(axis=0), ddof=1)) / size / len(names) ** 2
    of_a, of_b = np.mean(aurocs, axis=0)  # a value per seed
    means, n_seeds = (float(of_a.mean()), float(of_b.mean())), len(of_a)
    if fewest < NEEDS_IMAGES:
        return AurocComparison(*means, None, too_few("", "images per category and label", fewest, NEEDS_IMAGES).why)
    sources = [Source(variance, len(anomalous) - len(names))]
    if n_seeds > 1:
        sources.append(Source(float(np.var(of_a - of_b, ddof=1)) / n_seeds, n_seeds - 1))
    error = float(np.sqrt(sum(source.variance for source in sources)))
    return AurocComparison(*means, Estimate(means[0] - means[1], error, tuple(sources)))
