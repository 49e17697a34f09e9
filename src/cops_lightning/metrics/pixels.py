"""Pixel metrics of many maps that are never all in memory: exact, and with memory independent of their number.

Maps are expanded from patch scores one at a time, whenever they are looked at. The anomalous pixels, cut into chunks
of scores that fit the budget, give the thresholds of a chunk; a second pass counts the normal pixels that reach each
threshold. Both passes stream into the accumulators of `ranking` and `regions`, from the highest score down.

Scores are handled as `order_keys`: unsigned integers that compare as the float32 scores do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8, UInt32
from torch import Tensor

from cops_lightning.metrics.ranking import RankingAccumulator
from cops_lightning.metrics.regions import RegionAccumulator, region_weights

Expand = Callable[[Tensor], Tensor]
"""Patch scores (b p) to maps (b s s), on the CPU."""

Tick = Callable[[float], None]
"""Called with the fraction of the work that is done, in [0, 1]."""

PIXEL_BUDGET = 2**22
HIGHEST_KEY = 2**32 - 1
LOW_BITS = 12


class PixelScores(NamedTuple):
    """Quality of the maps of one category, each in [0, 1]."""

    auroc: float
    ap: float
    f1_max: float
    aupro: float


def order_keys(scores: Float32[np.ndarray, "*n"]) -> UInt32[np.ndarray, "*n"]:
    """Integers in the order of the scores: equal scores, -0.0 and 0.0 included, have equal keys. Scores are finite."""
    bits = (scores + np.float32(0)).view(np.int32)
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)


def pack_masks(masks: Bool[np.ndarray, "b s s"]) -> UInt8[np.ndarray, "b bytes"]:
    """Masks at one bit a pixel, each image padded to whole bytes."""
    n_images, height, width = masks.shape
    return np.packbits(masks.reshape(n_images, height * width), axis=1)


def unpack_masks(packed: UInt8[np.ndarray, "b bytes"], side: int) -> Bool[np.ndarray, "b s s"]:
    """What `pack_masks` packed, of masks of `side` x `side` pixels."""
    return np.unpackbits(packed, axis=1, count=side * side).reshape(-1, side, side).astype(bool)


class PixelSource:
    """Maps and masks of at least one image, pixels row by row, made from what is kept: see `pixel_scores`."""

    def __init__(self, patches: Float[Tensor, "n p"], masks: UInt8[np.ndarray, "n bytes"], expand: Expand) -> None:
        self.patches = patches
        self.masks = masks
        self.expand = expand
        self.side: int = self._map(0).shape[-1]
        if masks.shape[1] != -(-(self.side**2) // 8):
            raise ValueError(
                f"Maps and masks differ in size: `expand` gives {self.side} x {self.side} pixels, but a packed mask "
                f"has {masks.shape[1]} bytes of 8 pixels. Masks must have the side of the maps."
            )

    @property
    def n_pixels(self) -> int:
        """Pixels of one image."""
        return self.side * self.side

    def keys(self, index: int) -> UInt32[np.ndarray, " pixels"]:
        """The scores of one image. Its map does not depend on other images, as it is expanded on its own."""
        scores = self._map(index)
        if not np.isfinite(scores).all():
            raise ValueError(f"The map of image {index} is not finite although its patch scores are: see `expand`.")
        return order_keys(scores.reshape(-1))

    def mask(self, index: int) -> Bool[np.ndarray, " pixels"]:
        """Which pixels of one image are anomalous."""
        return np.unpackbits(self.masks[index], count=self.n_pixels).view(bool)

    def areas(self) -> Int64[np.ndarray, " n"]:
        """Anomalous pixels of each image."""
        return np.array([np.count_nonzero(self.mask(index)) for index in range(len(self.masks))], np.int64)

    def _map(self, index: int) -> Float32[np.ndarray, "s s"]:
        with torch.inference_mode():
            return np.ascontiguousarray(self.expand(self.patches[index : index + 1])[0].float().numpy())


@dataclass
class Thresholds:
    """Distinct anomalous scores, ascending, with the anomalous pixels and the region weight at each of them."""

    keys: UInt32[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.uint32))
    hits: Int64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int64))
    weights: Float64[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.float64))


class ThresholdCollector:
    """Gathers anomalous pixels and merges equal scores. Holds at most `budget` pixels and one image unmerged."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._merged = Thresholds()
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_pending = 0

    def add(self, keys: UInt32[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> None:
        """Take in anomalous pixels, in any order."""
        self._pending.append((keys, weights))
        self._n_pending += keys.size
        if self._n_pending > self.budget:
            self.merge()

    def merge(self) -> Thresholds:
        """Everything taken in so far."""
        if self._n_pending:
            keys = np.concatenate([self._merged.keys, *(keys for keys, _ in self._pending)])
            weights = np.concatenate([self._merged.weights, *(weights for _, weights in self._pending)])
            hits = np.concatenate([self._merged.hits, np.ones(self._n_pending, np.int64)])
            self._pending, self._n_pending = [], 0
            order = np.argsort(keys)
            keys = keys[order]
            starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
            self._merged = Thresholds(
                keys[starts], np.add.reduceat(hits[order], starts), np.add.reduceat(weights[order], starts)
            )
        return self._merged


class NormalCounter:
    """Counts, for each threshold, the normal pixels above it and those that reach it."""

    def __init__(self, thresholds: UInt32[np.ndarray, " n"], budget: int) -> None:
        self.thresholds = thresholds
        self.budget = budget
        self.above = np.zeros(thresholds.size, np.int64)
        self.reached = np.zeros(thresholds.size, np.int64)
        self._pending: list[np.ndarray] = []
        self._n_pending = 0

    def add(self, keys: UInt32[np.ndarray, " n"]) -> None:
        """Take in normal pixels, in any order."""
        self._pending.append(keys)
        self._n_pending += keys.size
        if self._n_pending > self.budget:
            self.flush()

    def flush(self) -> None:
        """Bring the counts up to date."""
        if self._n_pending:
            keys = np.concatenate(self._pending)
            self._pending, self._n_pending = [], 0
            keys.sort()
            self.above += keys.size - np.searchsorted(keys, self.thresholds, side="right")
            self.reached += keys.size - np.searchsorted(keys, self.thresholds, side="left")


def pixel_scores(
    patches: Float[Tensor, "n p"],
    masks: UInt8[np.ndarray, "n bytes"],
    expand: Expand,
    budget: int = PIXEL_BUDGET,
    tick: Tick | None = None,
) -> PixelScores | None:
    """Exact AUROC, AP, F1-max and AUPRO over all pixels of all images; None without normal or anomalous pixels.

    `masks` are those of `pack_masks`. `budget` bounds the pixels held at a time and changes nothing else.
    """
    if len(patches) == 0:
        return None
    source = PixelSource(patches, masks, expand)
    areas = source.areas()
    n_anomalous = int(areas.sum())
    n_normal = source.n_pixels * len(patches) - n_anomalous
    if n_anomalous == 0 or n_normal == 0:
        return None

    ranking = RankingAccumulator(n_normal, n_anomalous)
    regions = RegionAccumulator(n_normal)
    defective = np.flatnonzero(areas).tolist()
    floors = _floors(source, defective, budget) if n_anomalous > budget else [0]
    looked_at, to_look_at = 0, len(floors) * (len(defective) + len(patches))
    passed, ceiling = 0, HIGHEST_KEY  # normal pixels counted so far; scores above the ceiling are done with

    def look(index: int) -> tuple[UInt32[np.ndarray, " pixels"], Bool[np.ndarray, " pixels"]]:
        nonlocal looked_at
        looked_at += 1
        if tick is not None:
            tick(looked_at / to_look_at)
        return source.keys(index), source.mask(index)

    for floor in floors:
        collector = ThresholdCollector(budget)
        for index in defective:
            keys, mask = look(index)
            keys, weights = keys[mask], region_weights(mask.reshape(source.side, source.side))
            inside = (keys >= floor) & (keys <= ceiling)
            collector.add(keys[inside], weights[inside])
        thresholds = collector.merge()
        lowest = int(thresholds.keys[0])
        counter = NormalCounter(thresholds.keys, budget)
        for index in range(len(patches)):
            keys, mask = look(index)
            counter.add(keys[~mask & (keys >= lowest) & (keys <= ceiling)])
        counter.flush()
        above, reached = passed + counter.above[::-1], passed + counter.reached[::-1]
        ranking.extend(above, reached, thresholds.hits[::-1])
        regions.extend(above, reached, thresholds.weights[::-1])
        passed, ceiling = int(reached[-1]), lowest - 1
    return PixelScores(*ranking.result(), aupro=regions.result())


def _floors(source: PixelSource, defective: list[int], budget: int) -> list[int]:
    """Lowest keys of consecutive ranges of scores, highest range first, each with at least one anomalous pixel.

    A range holds at most `budget` anomalous pixels, or else at most 2**12 distinct scores.
    """
    counts = np.zeros(2 ** (32 - LOW_BITS), np.int64)
    for index in defective:
        bins, n = np.unique(source.keys(index)[source.mask(index)] >> LOW_BITS, return_counts=True)
        counts[bins] += n
    floors: list[int] = []
    held = 0
    for bin_ in np.flatnonzero(counts)[::-1].tolist():
        if not floors or held + counts[bin_] > budget:
            floors.append(0)
            held = 0
        floors[-1] = bin_ << LOW_BITS
        held += int(counts[bin_])
    return floors
