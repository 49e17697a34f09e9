"""The value that the readers produce: the samples of one dataset, with what identifies them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import eq
from pathlib import Path

from cops_lightning.core.choices import Split
from cops_lightning.core.errors import DatasetError
from cops_lightning.core.hashes import hashes_of
from cops_lightning.core.measured import MEAN
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.core.types import Sample, category_key
from cops_lightning.data.readers.images import Orientation, mask_files
from cops_lightning.data.readers.layouts import Entry
from cops_lightning.data.readers.spec import BlankMask

LONGEST = 200  # characters of the name of a dataset, a category or a defect
# Control characters, and halves of a character other than those that stand for bytes of a name that is not UTF-8.
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]").match


@dataclass(frozen=True)
class DatasetIndex:
    """The samples of one dataset, as found on disk and paired. `train` is empty where a set has no train split.

    `layout` says in words how the files lie. `root` is the folder that the fingerprint's and the keys' paths start
    from. A mask value above `mask_threshold` is anomalous by the rule of the dataset; None where its masks are to show
    which. `blank_masks` says what an image with a blank mask is; None once its masks are examined, see `masks`.
    `orientation` says how its files are read.
    """

    name: str
    root: Path
    layout: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    has_masks: bool
    mask_threshold: int | None = 127
    notes: tuple[str, ...] = field(default=(), repr=False)
    blank_masks: BlankMask | None = None
    orientation: Orientation = "viewer"

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories in order of appearance, those of the test split first."""
        return tuple(dict.fromkeys(sample.category for sample in self.test + self.train))

    def split(self, name: Split) -> tuple[Sample, ...]:
        """The samples of one split."""
        return self.train if name == "train" else self.test

    def only(self, categories: Iterable[str]) -> "DatasetIndex":
        """The same dataset with these categories only. Raises DatasetError where one is not in it."""
        wanted = set(categories)
        if unknown := sorted(wanted - set(self.categories)):
            raise DatasetError(
                f"{self.name} has no category '{unknown[0]}'.{did_you_mean(unknown[0], self.categories)} "
                f"It has: {', '.join(self.categories)}."
            )
        train = tuple(sample for sample in self.train if sample.category in wanted)
        return replace(self, train=train, test=tuple(sample for sample in self.test if sample.category in wanted))

    def counts(self) -> dict[str, dict[Split, tuple[int, int]]]:
        """Numbers of normal and of anomalous images, by category and split."""
        tally = Counter((sample.category, sample.split, sample.anomalous) for sample in self.train + self.test)
        splits: tuple[Split, ...] = ("train", "test")
        return {
            category: {split: (tally[category, split, False], tally[category, split, True]) for split in splits}
            for category in self.categories
        }

    def fingerprint(self) -> str:
        """A hash over the sorted relative paths, sizes in bytes and labels of all images and masks.

        Two results with equal fingerprints come from the same files in the same roles; pixels are not read.
        """
        lines = []
        for sample in self.train + self.test:
            role = [sample.category, sample.split, str(sample.label)]
            files = [] if sample.mask is None else [(mask, ["mask"]) for mask in mask_files(sample.mask)]
            for path, part in ((sample.image, role), *files):
                lines.append([self.relative(path), str(_size(path)), *part])
        return hashlib.blake2b(json.dumps(sorted(lines)).encode(), digest_size=16).hexdigest()

    def shares_images(self, other: "DatasetIndex") -> bool:
        """Whether an image of equal content has one place in both."""
        places = {self.relative(sample.image): sample.image for sample in self.train + self.test}
        pairs = [(places.get(other.relative(sample.image)), sample.image) for sample in other.train + other.test]
        alike = [(own, theirs) for own, theirs in pairs if own is not None and _size(own) == _size(theirs)]
        return any(map(eq, *(hashes_of([pair[side] for pair in alike]) for side in (0, 1))))

    def renamed(self, name: str) -> "DatasetIndex":
        """The same dataset under another name."""
        old, new = (category_key(text, "") for text in (self.name, name))
        train, test = (
            tuple(replace(sample, dataset=name, key=new + sample.key.removeprefix(old)) for sample in part)
            for part in (self.train, self.test)
        )
        return replace(self, name=name, train=train, test=test)

    def relative(self, path: Path) -> str:
        """A path of the dataset as seen from its root, with slashes; as it is where it lies outside."""
        return path.as_posix().removeprefix(f"{self.root.as_posix().rstrip('/')}/")


def make_samples(name: str, root: Path, entries: Iterable[Entry]) -> list[Sample]:
    """The samples of a dataset from what was listed of it. Raises DatasetError for names that cannot be those of data.

    A name must be printable, not too long, and not that of the row that averages the categories.
    """
    known: set[str] = set()
    for entry in (entries := list(entries)):
        if not known.issuperset(words := (name, entry.category, entry.defect)):
            known.update(words)
            for word in words:
                if not word.strip() or len(word) > LONGEST or any(map(_UNSHOWN, word)):
                    raise DatasetError(
                        f"{name} in {root} has a name that is empty, longer than {LONGEST} characters or not "
                        f"printable: '{word}', of {entry.image}. Rename it."
                    )
        if entry.category == MEAN:
            raise DatasetError(
                f"{name} in {root} has a category called '{MEAN}', as the row is that averages categories. Rename it."
            )
    return [
        Sample(
            name,
            entry.category,
            entry.split,
            entry.defect,
            root / entry.image,
            root / entry.mask if entry.mask and entry.anomalous else None,
            entry.anomalous,
            f"{category_key(name, entry.category)}/{entry.image}",
        )
        for entry in entries
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be measured ({error}). Restore the file.") from error
