"""The metrics that one target defines, from images collected one batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Int64
from torch import Tensor

from cops_lightning.core.types import MEAN, Level, MetricRow
from cops_lightning.metrics.curves import POINTS, CategoryCurves, RankingCurves, image_curves, pixel_curves
from cops_lightning.metrics.pixels import PIXEL_BUDGET, Expand, PixelScores, Tick, pixel_scores
from cops_lightning.metrics.ranking import RankingScores, ranking_scores
from cops_lightning.metrics.store import ImageStore, StoredImages

COLUMNS: tuple[tuple[Level, str], ...] = (
    *(("image", metric) for metric in RankingScores._fields),
    *(("pixel", metric) for metric in PixelScores._fields),
)

Progress = Callable[[int, int], None]
"""Told how many images of the target are evaluated, and how many there are."""


class MetricSuite:
    """Image and pixel metrics of one target, per category and averaged over categories.

    Images of several processes are put together. The results are exact, and depend neither on the batch size, nor on
    the number of processes, nor (to the last digit, where images have keys) on their order.

    Args:
        target: name of the dataset, repeated in every row.
        expand: patch scores (b p) to maps (b s s). Called during `compute` with CPU tensors, one image at a time.
        budget: pixels held in memory at a time; changes speed, never a result.
    """

    def __init__(self, target: str, expand: Expand, budget: int = PIXEL_BUDGET) -> None:
        self.target = target
        self.expand = expand
        self.budget = budget
        self._store = ImageStore(target)

    def update(
        self,
        image_scores: Float[Tensor, " b"],
        patch_scores: Float[Tensor, "b p"],
        masks: Float[Tensor, "b s s"] | None,
        labels: Int[Tensor, " b"],
        categories: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> None:
        """Add images of any categories; one whose key was added before, by any process, counts once.

        `masks` holds 0 and 1, and is None where the target has no masks. `labels` are 0 normal, 1 anomalous.

        Raises ValueError if scores are not finite, naming the categories, or if sizes do not fit.
        """
        self._store.update(image_scores, patch_scores, masks, labels, categories, keys)

    def reset(self) -> None:
        """Forget all images."""
        self._store.reset()

    def compute(self, progress: Progress | None = None) -> list[MetricRow]:
        """Seven rows per category, in alphabetical order, then seven with the mean over categories.

        A value is None where the metric is undefined: at image level without normal or without anomalous images, at
        pixel level without masks, without normal or without anomalous pixels. A mean is over the categories that
        define the metric, None if none does; the counts beside it are those of all categories. With several
        processes, all must call this, and all get the rows of all images.

        Raises ValueError if there are no images, or if only some images of a category came with masks.
        """
        images = self._store.images()
        names = np.array(images.categories)
        rows: list[MetricRow] = []
        done = 0
        for category in np.unique(names).tolist():
            members = np.flatnonzero(names == category)

            def tick(fraction: float, done: int = done, n: int = members.size) -> None:
                if progress is not None:
                    progress(done + int(fraction * n), names.size)

            rows += self._category(category, images, members, tick)
            done += members.size
            tick(1.0)
        return rows + [_mean(rows[column :: len(COLUMNS)]) for column in range(len(COLUMNS))]

    def curves(self, points: int = POINTS) -> list[CategoryCurves]:
        """ROC and precision-recall curves of at most `points` points each, per category and level that define them.

        With several processes, all must call this, and all get the curves of all images.

        Raises ValueError if there are no images.
        """
        images = self._store.images()
        names = np.array(images.categories)
        found: list[CategoryCurves] = []
        for category in np.unique(names).tolist():
            members = np.flatnonzero(names == category)
            scores, anomalous = images.image_scores[members], images.anomalous[members]
            of_level: dict[Level, RankingCurves | None] = {
                "image": image_curves(scores[~anomalous], scores[anomalous], points)
            }
            if images.masked[members].all():
                masks = images.masks[np.cumsum(images.masked)[members] - 1]
                of_level["pixel"] = pixel_curves(images.patch_scores[members], masks, self.expand, points)
            found += [CategoryCurves(self.target, category, at, of) for at, of in of_level.items() if of is not None]
        return found

    def _category(
        self, category: str, images: StoredImages, members: Int64[np.ndarray, " n"], tick: Tick
    ) -> list[MetricRow]:
        scores, anomalous = images.image_scores[members], images.anomalous[members]
        image = ranking_scores(scores[~anomalous], scores[anomalous])
        pixel = None
        with_mask = int(images.masked[members].sum())
        if 0 < with_mask < members.size:
            raise ValueError(
                f"{self.target}: {with_mask} of {members.size} images of {category} came with masks. Pixel metrics "
                "need all of them (all zero for a normal image), or none where the dataset has no masks."
            )
        if with_mask:
            masks = images.masks[np.cumsum(images.masked)[members] - 1]
            pixel = pixel_scores(images.patch_scores[members], masks, self.expand, self.budget, tick)
        values = [*(image or (None,) * 3), *(pixel or (None,) * 4)]
        n_anomalous = int(anomalous.sum())
        return [
            MetricRow(self.target, category, level, metric, value, members.size - n_anomalous, n_anomalous)
            for (level, metric), value in zip(COLUMNS, values, strict=True)
        ]


def _mean(rows: Sequence[MetricRow]) -> MetricRow:
    """One metric of all categories, averaged where it is defined."""
    values = [row.value for row in rows if row.value is not None]
    return replace(
        rows[0],
        category=MEAN,
        value=sum(values) / len(values) if values else None,
        n_normal=sum(row.n_normal for row in rows),
        n_anomalous=sum(row.n_anomalous for row in rows),
    )
