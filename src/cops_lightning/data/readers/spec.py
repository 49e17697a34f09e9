"""What is known of a dataset before it is read: its name, its categories, and the layouts it comes in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Domain = Literal["industrial", "medical", "other"]

NORMAL_WORDS = frozenset({"good", "ok", "normal", "no", "free", "healthy", "negative"})
ANOMALOUS_WORDS = frozenset(
    {"anomaly", "anomalous", "abnormal", "bad", "ko", "ng", "defect", "defective", "yes", "positive"}
)
_NAMELESS = frozenset({"", "yes", "true", "1", "1.0"})  # words that say there is a defect, but not which
INDEX_NAME = "cops_index.jsonl"  # of an index file in the folder of its dataset
GOOD = "good"  # the defect name of every normal image, whatever its folder is called


@dataclass(frozen=True)
class Counts:
    """Numbers of images of one category. `train` counts normal images: no supported set publishes anomalous ones."""

    train: int
    normal: int
    anomalous: int


@dataclass(frozen=True)
class Folders:
    """A layout in which the place of a file says what it is; see `templates` for how the places are written.

    `normal` lists the values of {defect} that mean a normal image. Without {defect} every image is anomalous. `ignore`
    names places of image files that are known not to belong to the set. `unpaired_normal` takes an image without a
    mask for normal, instead of an error.
    """

    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...] = ()
    normal: frozenset[str] = NORMAL_WORDS
    ignore: tuple[str, ...] = ()
    unpaired_normal: bool = False


@dataclass(frozen=True)
class Table:
    """A layout in which a CSV or JSON-lines file lists the images.

    `columns` maps a role (image, mask, category, split, label, defect) to the name of a column, or to a path written
    with columns such as `scans/{id:03d}.png`. Roles left out are looked for under their usual names. `normal` lists the
    labels of normal images, if they are not the usual ones. `places` says where the images lie, for error messages.
    """

    name: str
    file: str
    columns: Mapping[str, str] = field(default_factory=dict)
    normal: frozenset[str] = frozenset()
    places: tuple[str, ...] = ()


Layout = Folders | Table


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset. `counts` is empty for a set of one's own, whose categories are read from its folders.

    `has_masks` and `has_normal` say what the published test split defines: without masks there are no pixel metrics,
    without normal images no image metrics; None means as found. `folders` are the names its folder usually has under a
    data root, `wrappers` the folders that its archives put around it, `renamed` the names that curated copies give to
    its categories. A mask value above `mask_threshold` marks an anomalous pixel, by the rule of the dataset.
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
    mask_threshold: int = 127
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
            return word or self.name
        return self._by_folded_name.get(word.casefold()) if word else None

    @cached_property
    def _by_folded_name(self) -> Mapping[str, str]:
        names = {old.casefold(): new for old, new in self.renamed.items()}
        return names | {name.casefold(): name for name in self.counts}

    def defect_name(self, word: str, anomalous: bool) -> str:
        """What the defect of an image is called, given the word that its folder or list has for it, if any."""
        if not anomalous:
            return GOOD
        return self.defect if word.casefold() in NORMAL_WORDS | _NAMELESS else word
