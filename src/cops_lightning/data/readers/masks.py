"""What the masks of a dataset mark: asked of every one before anything is made of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.hashes import FileHashes
from cops_lightning.core.types import Sample
from cops_lightning.data.readers.images import (
    Orientation,
    mask_files,
    mask_summary,
    of_another_size,
    read_image,
    seen_size,
    stored_size,
)
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
    lossy: int
    classes: int
    most: int
    width: int
    height: int
    turned: int

    @property
    def marks(self) -> bool:
        return self.largest > (NOISE if self.lossy else 0)

    @property
    def is_low(self) -> bool:
        """Whether what it marks is not above 127, as in masks of 0 and 1 or of a few classes."""
        return self.marks and not self.lossy and (self.largest <= 127 or bool(self.classes))

    def seen_size(self, orientation: Orientation) -> tuple[int, int]:
        return seen_size((self.width, self.height), self.turned, orientation)


class _Remembered(FileHashes):
    """The numbers that `look` finds in files, remembered as hashes of files are."""

    def __init__(self, kind: str, look: Callable[[Path], Sequence[int]]) -> None:
        super().__init__()
        self.kind, self.look = kind, look

    def _content(self, path: Path) -> str:
        return " ".join(str(int(value)) for value in self.look(path))

    def numbers(self, paths: Sequence[Path]) -> Iterator[list[int]]:
        """Of each file in turn. Raises DatasetError where one cannot be read."""
        return (list(map(int, text.split())) for text in self.of(paths))


def examined(index: DatasetIndex, rule: MaskThreshold = "dataset") -> tuple[DatasetIndex, list[str]]:
    """A dataset with its mask threshold known and its labels final, and what is wrong with its masks.

    Every anomalous image must have a marked pixel, and the masks must be written alike, unless the dataset states a
    threshold. Where nothing but a mask tells normal images from anomalous ones, those of the training split are
    examined too.
    """
    meaning = index.blank_masks
    samples = index.test + index.train if meaning == "normal" else index.test
    masked = [sample for sample in samples if sample.anomalous and sample.mask is not None] if index.has_masks else []
    summaries = _summaries(masked)
    marking = [
        (sample, [part for part in parts if part.marks]) for sample, parts in zip(masked, summaries, strict=True)
    ]
    problems, notes = list[str](), list(index.notes)
    if odd := _misfits(masked, summaries, index.orientation):
        problems.append(f"masks of another size than their image: {len(odd)} of {len(masked)}. {odd[0]}")
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
    found = _Remembered("mask 3", mask_summary).numbers([file for own in files for file in own])
    return [[_Summary(*next(found)) for _ in own] for own in files]


def _misfits(masked: Sequence[Sample], summaries: Sequence[Sequence[_Summary]], orientation: Orientation) -> list[str]:
    """A sentence on each mask that has not the size of its image, as the image's header says it.

    Where only width and height are exchanged the image is decoded: its orientation may stand after its pixels.
    """
    sizes = _Remembered("image size", stored_size).numbers([sample.image for sample in masked])
    found = []
    for sample, parts, (*stored, turned) in zip(masked, summaries, sizes, strict=True):
        size = seen_size(stored, turned, orientation)
        other = next((part for part in (part.seen_size(orientation) for part in parts) if part != size), None)
        if any(size) and other == size[::-1]:
            size = read_image(sample.image, orientation).size
        if any(size) and other not in (None, size):
            found.append(of_another_size(sample, other, size))
    return found
