"""What the masks of a dataset mark: asked of every one before anything is made of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.hashes import FileHashes, Stamp
from cops_lightning.core.types import Sample
from cops_lightning.data.readers.images import mask_files, mask_summary
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.spec import GOOD

# Which mask values are anomalous: all but 0, or those above the threshold that fits the masks of the dataset.
MaskThreshold = Literal["released", "dataset"]
NOISE = 16  # the largest value that compression with loss makes of 0
_THRESHOLD_CURE = (
    "Take all values but 0 as anomalous by data.mask_threshold=released (in Python mask_threshold='released'), or "
    "those above another by `mask_threshold:` in a YAML spec, or write the masks alike."
)
_BLANK_CURE = (
    "Restore them, or say what such a mask means: data.blank_masks=normal (its image is normal) or "
    "data.blank_masks=anomalous (in Python blank_masks=...; in a YAML spec `blank: normal`)."
)


class _Summary(NamedTuple):
    """See `mask_summary`."""

    largest: int
    lossy: bool
    classes: bool
    most: bool

    @property
    def marks(self) -> bool:
        return self.largest > (NOISE if self.lossy else 0)

    @property
    def is_low(self) -> bool:
        """Whether what it marks is not above 127, as in masks of 0 and 1 or of a few classes."""
        return self.marks and not self.lossy and (self.largest <= 127 or self.classes)


class _Summaries(FileHashes):
    """What masks hold, remembered as hashes of files are."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = "mask 2"

    def _hash(self, path: Path) -> tuple[Stamp, str, bool]:
        stamp, _, settled = super()._hash(path)
        return stamp, " ".join(str(int(value)) for value in mask_summary(path)), settled


def examined(index: DatasetIndex, rule: MaskThreshold = "dataset") -> tuple[DatasetIndex, list[str]]:
    """A dataset with its mask threshold known and its labels final, and what is wrong with its masks.

    Every anomalous image must have a marked pixel, and the masks must be written alike, unless the dataset states a
    threshold. Where nothing but a mask tells normal images from anomalous ones, those of the training split are
    examined too.
    """
    meaning = index.blank_masks
    samples = index.test + index.train if meaning == "normal" else index.test
    masked = [sample for sample in samples if sample.anomalous and sample.mask is not None] if index.has_masks else []
    marking = [
        (sample, [part for part in parts if part.marks])
        for sample, parts in zip(masked, _summaries(masked), strict=True)
    ]
    problems, notes = list[str](), list(index.notes)
    threshold = 0 if rule == "released" else index.mask_threshold
    if threshold is None:
        low = [sample for sample, parts in marking if any(part.is_low for part in parts)]
        high = [sample for sample, parts in marking if parts and not any(part.is_low for part in parts)]
        threshold = 0 if low else 127
        if low and high:
            problems.append(
                f"masks are written in different ways: those of {len(low)} images mark by values up to 127, first "
                f"{low[0].mask}; those of {len(high)} by values above, first {high[0].mask}. {_THRESHOLD_CURE}"
            )
    above = threshold
    faint = [sample for sample, parts in marking if parts and all(part.largest <= above for part in parts)]
    if faint:
        problems.append(
            f"masks that mark only by values up to {threshold}, where those above are anomalous: {len(faint)} of "
            f"{len(masked)}, first {faint[0].mask}. {_THRESHOLD_CURE}"
        )
    blank = [sample for sample, parts in marking if not parts]
    if blank and (meaning == "error" or len(blank) == len(masked)):
        problems.append(
            f"masks without a marked pixel, of images that are taken for anomalous: {len(blank)} of {len(masked)}, "
            f"first {blank[0].mask}. {_BLANK_CURE}"
        )
    elif blank and meaning is not None:
        notes.append(f"Blank masks, of images that are taken for {meaning}: {len(blank)}, first {blank[0].mask}.")
    if marking and all(any(part.most for part in parts) for _, parts in marking):
        notes.append(f"Every mask marks more than half of its image, first {masked[0].mask}: is it the defect?")
    known = replace(index, mask_threshold=threshold, blank_masks=None, notes=tuple(notes))
    if meaning != "normal":
        return known, problems
    normal = set(blank)
    train, test = (
        tuple(replace(s, anomalous=False, mask=None, defect=GOOD) if s in normal else s for s in part)
        for part in (index.train, index.test)
    )
    return replace(known, train=train, test=test), problems


def require_marked(index: DatasetIndex, rule: MaskThreshold = "dataset") -> DatasetIndex:
    """`examined`, unless it was before. Raises DatasetError for the first thing that is wrong."""
    if index.blank_masks is None:
        return index
    known, problems = examined(index, rule)
    if problems:
        raise DatasetError(f"{index.name} in {index.root}: {problems[0]}")
    return known


def _summaries(samples: Sequence[Sample]) -> list[list[_Summary]]:
    """What the masks hold, of each sample's file or files."""
    files = [mask_files(sample.mask) for sample in samples if sample.mask is not None]
    texts = _Summaries().of([file for own in files for file in own])
    found = iter(_Summary(int(largest), *(flag == "1" for flag in flags)) for largest, *flags in map(str.split, texts))
    return [[next(found) for _ in own] for own in files]
