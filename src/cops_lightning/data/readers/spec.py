"""What is known of a dataset before it is read: its name, its categories, and the layouts it comes in."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

from cops_lightning.core.choices import Split

Domain = Literal["industrial", "medical", "other"]
# What a mask without a marked pixel says of an image that nothing else calls normal.
BlankMask = Literal["error", "normal", "anomalous"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NORMAL_WORDS = _words(
    "good ok normal no free healthy negative clean intact undamaged flawless perfect fine pass passed nominal "
    "defect_free defectless non_defective nondefective no_defect without_defect no_anomaly anomaly_free normals"
)
ANOMALOUS_WORDS = _words(
    "anomaly anomalous abnormal bad ko ng defect defective defects anomalies yes positive fail failed damaged "
    "faulty not_good not_ok nok"
)
UNKNOWN_WORDS = _words("unknown unlabeled unlabelled unlabel unsure undefined unspecified tbd todo -1 ?")
IMAGE_WORDS = _words("image images img imgs photo photos picture pictures jpegimages")
MASK_WORDS = _words(
    "mask masks ground_truth groundtruth ground_truths gt gts label labels seg segs segmentation segmentations "
    "segmentation_mask segmentation_masks segmentationclass annotation annotations labelimg"
)
SPLIT_WORDS: Mapping[str, Split] = {"train": "train", "training": "train", "test": "test", "testing": "test"}
HELD_OUT_WORDS = frozenset({"val", "valid", "validation", "dev"})
_NAMELESS = frozenset({"", "yes", "true", "1", "1.0"})  # words that say there is a defect, but not which
INDEX_NAME = "cops_index.jsonl"  # of an index file in the folder of its dataset
GOOD = "good"  # the defect name of every normal image, whatever its folder is called
_AFFIX = re.compile(r"^\d+_(?=[a-z])|_(?:dir|folder|images?|imgs?|samples?|parts?)$")


@lru_cache(maxsize=4096)
def plain_word(text: str) -> str:
    """A folder's name as the lists of words above have it: "OK", "Ground Truth" and "normal_dir" are in them."""
    folded = re.sub(r"[\s\-.]+", "_", text.strip().casefold())
    return _AFFIX.sub("", folded) or folded


def looks_like_masks(folder: str) -> bool:
    """Whether a folder's name says that masks are in it."""
    return plain_word(folder) in MASK_WORDS or plain_word(folder).endswith(("_mask", "_masks", "_gt"))


@dataclass(frozen=True)
class Counts:
    """Numbers of images of one category. `train` counts normal images: no supported set publishes anomalous ones."""

    train: int
    normal: int
    anomalous: int


@dataclass(frozen=True)
class Folders:
    """A layout in which the place of a file says what it is; see `templates` for how the places are written.

    `normal` lists the values of {defect} that mean a normal image; None stands for the usual words. Without {defect}
    every image is anomalous. `ignore` names places of image files that are known not to belong to the set.
    `unpaired_normal` takes an image without a mask for normal, instead of an error; `blank` says what one with a blank
    mask is. `splits` says which split the values of {split} mean.
    """

    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...] = ()
    normal: frozenset[str] | None = None
    ignore: tuple[str, ...] = ()
    unpaired_normal: bool = False
    blank: BlankMask = "error"
    splits: Mapping[str, Split] = field(default_factory=lambda: SPLIT_WORDS)


@dataclass(frozen=True)
class Table:
    """A layout in which a CSV or JSON-lines file lists the images.

    `columns` maps a role (image, mask, category, split, label, defect) to the name of a column, or to a path written
    with columns such as `scans/{id:03d}.png`. Roles left out are looked for under their usual names. `normal` lists the
    labels of normal images, if they are not the usual ones. `places` says where the images lie, for error messages.
    `blank` and `splits` are as in `Folders`.
    """

    name: str
    file: str
    columns: Mapping[str, str] = field(default_factory=dict)
    normal: frozenset[str] | None = None
    places: tuple[str, ...] = ()
    blank: BlankMask = "error"
    splits: Mapping[str, Split] = field(default_factory=lambda: SPLIT_WORDS)


Layout = Folders | Table


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset. `counts` is empty for a set of one's own, whose categories are read from its folders.

    `has_masks` and `has_normal` say what the published test split defines: without masks there are no pixel metrics,
    without normal images no image metrics; None means as found. `folders` are the names its folder usually has under a
    data root, `wrappers` the folders that its archives put around it, `renamed` the names that curated copies give to
    its categories. A mask value above `mask_threshold` marks an anomalous pixel; None means as the masks show.
    """

    name: str
    layouts: tuple[Layout, ...]
    title: str = ""
    domain: Domain = "other"
    counts: Mapping[str, Counts] = field(default_factory=dict)
    has_masks: bool | None = None
    has_normal: bool | None = None
    category: str | None = None
    defect: str = "anomaly"
    mask_threshold: int | None = None
    url: str = ""
    licence: str = ""
    folders: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    unconfirmed_train: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The published categories; empty for a set of one's own."""
        return tuple(self.counts)

    def category_of(self, word: str | None) -> str | None:
        """The category that a folder name or table entry means, or None where it means none of this dataset."""
        if self.category is not None:
            return self.category
        if len(self.counts) == 1:
            return next(iter(self.counts))
        if not self.counts:
            return unicodedata.normalize("NFC", word) if word else self.name
        return self._by_folded_name.get(word.casefold()) if word else None

    @cached_property
    def _by_folded_name(self) -> Mapping[str, str]:
        names = {old.casefold(): new for old, new in self.renamed.items()}
        return names | {name.casefold(): name for name in self.counts}

    def defect_name(self, word: str, anomalous: bool) -> str:
        """What the defect of an image is called, given the word that its folder or list has for it, if any."""
        if not anomalous:
            return GOOD
        nameless = plain_word(word) in NORMAL_WORDS | _NAMELESS
        return self.defect if nameless else unicodedata.normalize("NFC", word)
