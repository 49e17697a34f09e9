"""The value that the readers produce: the samples of one dataset, with what identifies them."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.core.types import Sample, Split


@dataclass(frozen=True)
class DatasetIndex:
    """The samples of one dataset, as found on disk and paired. `train` is empty where a set has no train split.

    `layout` says in words how the files lie. `root` is the folder that the fingerprint's and the keys' paths start
    from. A mask value above `mask_threshold` is anomalous by the rule of the dataset.
    """

    name: str
    root: Path
    layout: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    has_masks: bool
    mask_threshold: int = 127
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories in order of appearance, those of the test split first."""
        return tuple(dict.fromkeys(sample.category for sample in self.test + self.train))

    @property
    def has_normal(self) -> bool:
        """Whether the test split has normal images, without which image metrics are undefined."""
        return any(not sample.anomalous for sample in self.test)

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
            role = f"{sample.category}\t{sample.split}\t{sample.label}"
            for path, part in ((sample.image, role), (sample.mask, "mask")):
                if path is not None:
                    lines.append(f"{self.relative(path)}\t{_size(path)}\t{part}")
        return hashlib.blake2b("\n".join(sorted(lines)).encode(errors="surrogateescape"), digest_size=16).hexdigest()

    def relative(self, path: Path) -> str:
        """A path of the dataset as seen from its root, with slashes; as it is where it lies outside."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path} cannot be measured ({error.strerror or error}). Restore the file.") from error
