"""The metrics that one target defines, from images collected one batch at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from cops_lightning.core.measured import MEAN, Level, MetricRow
from cops_lightning.metrics.curves import POINTS, CategoryCurves, RankingCurves, image_curves, pixel_curves
from cops_lightning.metrics.pixels import PIXEL_BUDGET, Expand, PixelScores, Tick, pixel_scores, unpack_masks
from cops_lightning.metrics.ranking import RankingScores, ranking_scores
from cops_lightning.metrics.store import ImageStore, StoredImages

COLUMNS: tuple[tuple[Level, str], ...] = (
    *(("image", metric) for metric in RankingScores._fields),
    *(("pixel", metric) for metric in PixelScores._fields),
)

Progress = Callable[[int, int], None]
"""Called with the number of images of the target that are evaluated, and how many there are."""


class MetricSuite(ImageStore):
    """Image and pixel metrics of one target, per category and averaged over categories, as one torchmetrics Metric.

    Images of several processes are put together. The results are exact, and depend neither on the batch size, nor on
    the number of processes, nor (to the last digit, where images have keys) on their order.

    Args:
        target: name of the dataset, repeated in every row.
        expand: patch scores (b p) to maps (b s s). Called when computing, with CPU tensors, one image at a time.
        more: further metrics by level, image or pixel, and name. A metric takes scores and labels, both (n,), or maps
            and masks, both (b s s), and computes one number; each category gets a copy of its own.
        budget: pixels held in memory at a time; changes speed, never a result.
    """

    def __init__(
        self,
        target: str,
        expand: Expand,
        more: Mapping[Level, Mapping[str, Metric]] | None = None,
        budget: int = PIXEL_BUDGET,
    ) -> None:
        super().__init__(target)
        self._expand, self._budget = [expand], budget  # in a list, so that a module is not taken for a part of this one
        self._more = [(level, name, metric) for level, named in (more or {}).items() for name, metric in named.items()]

    @property
    def expand(self) -> Expand:
        """From patch scores to maps."""
        return self._expand[0]

    def compute(self) -> dict[str, Tensor]:
        """Every metric that is defined, in fp64: LEVEL_METRIC over categories, CATEGORY/LEVEL_METRIC of one."""
        return scalars(self._rows(self._stored(), None))

    def rows(self, progress: Progress | None = None) -> list[MetricRow]:
        """A row per metric and category, categories in alphabetical order, then rows with the mean over categories.

        A value is None where the metric is undefined: at image level without normal or without anomalous images, at
        pixel level without masks, without normal or without anomalous pixels. A mean is over the categories that
        define the metric, None if none does; the counts beside it are those of all categories. With several
        processes, all must call this, and all get the rows of all images.

        Raises ValueError if there are no images, or if only some images of a category came with masks.
        """
        return self._rows(self.images(), progress)

    def _rows(self, images: StoredImages, progress: Progress | None) -> list[MetricRow]:
        rows: list[MetricRow] = []
        done, n_images = 0, len(images.categories)
        for category, own in images.by_category():

            def tick(fraction: float, done: int = done, n: int = len(own.categories)) -> None:
                if progress is not None:
                    progress(done + int(fraction * n), n_images)

            rows += self._category(category, own, tick)
            done += len(own.categories)
            tick(1.0)
        columns = len(COLUMNS) + len(self._more)
        return rows + [_mean(rows[column::columns]) for column in range(columns)]

    def curves(self, points: int = POINTS) -> list[CategoryCurves]:
        """ROC and precision-recall curves of at most `points` points each, per category and level that define them.

        With several processes, all must call this, and all get the curves of all images.

        Raises ValueError if there are no images.
        """
        found: list[CategoryCurves] = []
        for category, own in self.images().by_category():
            of_level: dict[Level, RankingCurves | None] = {"image": image_curves(*own.ranked, points)}
            if own.masked.all():
                of_level["pixel"] = pixel_curves(own.patch_scores, own.masks, self.expand, points)
            found += [CategoryCurves(self.target, category, at, of) for at, of in of_level.items() if of is not None]
        return found

    def _category(self, category: str, own: StoredImages, tick: Tick) -> list[MetricRow]:
        n_images, n_anomalous, with_mask = (int(n) for n in (own.masked.size, own.anomalous.sum(), own.masked.sum()))
        if 0 < with_mask < n_images:
            raise ValueError(
                f"{self.target}: {with_mask} of {n_images} images of {category} came with masks. Pixel metrics "
                "need all of them (all zero for a normal image), or none where the dataset has no masks."
            )
        image = ranking_scores(*own.ranked)
        pixel = pixel_scores(own.patch_scores, own.masks, self.expand, self._budget, tick) if with_mask else None
        values = [*(image or (None,) * 3), *(pixel or (None,) * 4)]
        columns = [(*column, value) for column, value in zip(COLUMNS, values, strict=True)]
        columns += [(level, name, self._further(level, metric, own)) for level, name, metric in self._more]
        counts = (n_images - n_anomalous, n_anomalous)
        return [MetricRow(self.target, category, level, metric, value, *counts) for level, metric, value in columns]

    def _further(self, level: Level, metric: Metric, images: StoredImages) -> float | None:
        """A further metric of one category; None where a label or the masks that it would need are missing."""
        defined = images.masked if level == "pixel" else [images.anomalous.any(), not images.anomalous.all()]
        if not all(defined):
            return None
        own: Any = metric.clone()
        own.sync_on_compute = False  # the images are those of all processes already
        own.reset()
        if level == "image":
            own.update(torch.from_numpy(images.image_scores).float(), torch.from_numpy(images.anomalous).long())
        else:
            for patches, mask in zip(torch.split(images.patch_scores, 1), images.masks, strict=True):
                maps = self.expand(patches)
                own.update(maps, torch.from_numpy(unpack_masks(mask[None], maps.shape[-1])).long())
        return float(own.compute())


def scalars(rows: Sequence[MetricRow]) -> dict[str, Tensor]:
    """The defined values of one target by name, in fp64: LEVEL_METRIC of the mean, CATEGORY/LEVEL_METRIC of others."""
    return {
        f"{'' if row.category == MEAN else f'{row.category}/'}{row.level}_{row.metric}": torch.tensor(
            row.value, dtype=torch.float64
        )
        for row in rows
        if row.value is not None
    }


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
