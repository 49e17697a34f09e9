"""Two methods over the same images: images as a source of chance beside the seeds, in image AUROC.

A dataset's image AUROC is the mean over its categories, so the category of every image is asked for. The answer speaks
of other images of these categories, and of other seeds where there are several.
"""

from collections.abc import Sequence
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
    """AUROC of A and of B by seed, mean over categories, and what the images bring to the variance of the difference.

    `why` there is no `images`: too few of a category and label.
    """

    a: Float[np.ndarray, " seeds"]
    b: Float[np.ndarray, " seeds"]
    images: Source | None
    why: str = ""


def difference(found: Sequence[AurocComparison]) -> Estimate | None:
    """A minus B, mean over datasets whose images are independent and whose seeds are the same; None without `images`.

    The variance of the seeds is added to that of the images; what both contain counts twice, which errs on the side of
    caution. With one seed it speaks of these weights alone.
    """
    images = [of.images for of in found if of.images is not None]
    if len(images) < len(found):
        return None
    by_seed = np.mean([of.a - of.b for of in found], axis=0)
    sources = [Source(sum(of.variance for of in images) / len(found) ** 2, sum(of.df for of in images))]
    if len(by_seed) > 1:
        sources.append(Source(float(np.var(by_seed, ddof=1)) / len(by_seed), len(by_seed) - 1))
    error = float(np.sqrt(sum(source.variance for source in sources)))
    return Estimate(float(by_seed.mean()), error, tuple(sources))


def compare_aurocs(
    anomalous: Bool[np.ndarray, " n"],
    a: Float[np.ndarray, "seeds n"],
    b: Float[np.ndarray, "seeds n"],
    categories: np.ndarray,
) -> AurocComparison:
    """Compare scores of the same images, row by row of the same seed, averaged over categories and seeds.

    With one seed its `difference` is DeLong's test. With several, an image's placements are averaged over them.

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
    if fewest < NEEDS_IMAGES:
        return AurocComparison(of_a, of_b, None, too_few("", "images per category and label", fewest, NEEDS_IMAGES).why)
    return AurocComparison(of_a, of_b, Source(variance, len(anomalous) - len(names)))
