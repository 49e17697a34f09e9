"""Is a dataset on disk what it should be? Everything that is off is listed, not only the first."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cops_lightning.core.choices import Split
from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import Sample
from cops_lightning.data.catalog import spec_or_none
from cops_lightning.data.readers.images import mask_files, of_another_size, read_image, read_mask, require_header
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.index_file import read_header
from cops_lightning.data.readers.masks import examined
from cops_lightning.data.readers.resolve import Located, locate
from cops_lightning.data.readers.spec import INDEX_NAME, Counts, DatasetSpec

Decoded = str  # what is wrong with a sample, if anything
REAL_SHARE = 10  # one in so many image files is more than a stray one
Progress = Callable[[Iterable[Decoded], int], Iterable[Decoded]]
Tally = Mapping[str, Mapping[Split, tuple[int, int]]]


@dataclass(frozen=True)
class Report:
    """What a check found. `problems` make a dataset unfit or other than published; `notes` do not.

    `layout`, `root` and `fingerprint` are None where no dataset was found. `found` holds, by category and split, the
    numbers of normal and of anomalous images; `expected` is empty for a set of one's own.
    """

    dataset: str
    layout: str | None = None
    root: Path | None = None
    fingerprint: str | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    found: Tally = field(default_factory=dict)
    expected: Mapping[str, Counts] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values: dataset, layout, fingerprint, problems and the counts found in each category."""
        return {
            "dataset": self.dataset,
            "layout": self.layout,
            "fingerprint": self.fingerprint,
            "problems": list(self.problems),
            "categories": {
                name: {split: {"normal": counts[0], "anomalous": counts[1]} for split, counts in splits.items()}
                for name, splits in self.found.items()
            },
        }


def check(
    source: str | Path,
    root: str | Path | None = None,
    *,
    exact: bool = True,
    deep: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Read a dataset from its folders, whatever index file lies there, and compare it with what was published.

    Its masks are examined by the rule that training and testing apply, and the headers of all images are read.

    `root` must be the folder of the dataset itself, or without `exact` may be one that holds it; without one it is
    looked for in COPS_DATA_ROOT. With `deep` every image and mask is decoded and compared in size; `progress` may wrap
    that loop, given its length.
    """
    spec = spec_or_none(source) if isinstance(source, str) else None
    try:
        located = locate(source, root, exact=exact and root is not None, walk=True)
        index = located if isinstance(located, DatasetIndex) else located.index()
        fingerprint = index.fingerprint()
    except DatasetError as error:
        expected = spec.counts if spec else {}
        return Report(spec.name if spec else str(source), problems=(str(error),), expected=expected)
    problems = [] if isinstance(located, DatasetIndex) else list(located.reading.problems)
    try:
        index, unmarked = examined(index)
        problems += unmarked
    except DatasetError as error:
        problems.append(str(error))
    spec = located.spec if isinstance(located, Located) else spec_or_none(index.name)
    notes = list(index.notes)
    if spec is not None and spec.counts:
        problems += _count_problems(index, spec, notes)
    empty = [path for path in _files(index) if path.stat().st_size == 0]
    problems += [f"{path} is empty. Replace the file." for path in empty]
    if not deep:
        problems += [problem for problem in _in_threads(_header, index, None) if problem not in problems]
    kept = index.root / INDEX_NAME
    header = read_header(kept) if kept.is_file() else None
    if header is not None and header.fingerprint != fingerprint:
        problems.append(f"{kept} is out of date. Write it again with `cops-data index`, or remove it.")
    left = len(located.reading.unclaimed) if isinstance(located, Located) else 0
    if left and left * REAL_SHARE >= left + len(index.train + index.test):
        problems.append(f"a real share of the image files is left out: {left}. Describe them by a YAML spec.")
    if deep:
        problems += [problem for problem in _in_threads(_decode, index, progress) if problem not in problems]
    found, expected = index.counts(), spec.counts if spec else {}
    return Report(index.name, index.layout, index.root, fingerprint, tuple(problems), tuple(notes), found, expected)


def _count_problems(index: DatasetIndex, spec: DatasetSpec, notes: list[str]) -> Iterator[str]:
    """Where the numbers of images differ from the published ones."""
    found = index.counts()
    missing = [category for category in spec.categories if category not in found]
    if missing:
        yield (
            f"categories missing: {len(missing)} of {len(spec.categories)}, namely {', '.join(missing)}. "
            "Unpack the whole archive, or use the categories that are there."
        )
    train_expected = any(counts.train for counts in spec.counts.values())
    if train_expected and not index.train:
        notes.append("There are no training images. CoPS does not use them: it trains on an auxiliary test split.")
    for category, splits in found.items():
        counts = spec.counts[category]
        rows = [("test", "normal", splits["test"][0], counts.normal)]
        rows.append(("test", "anomalous", splits["test"][1], counts.anomalous))
        if index.train:
            rows.append(("train", "normal", splits["train"][0], counts.train))
            rows.append(("train", "anomalous", splits["train"][1], 0))
        for split, label, got, expected in rows:
            if got == expected:
                continue
            sentence = f"{category}, {split}: {label} images found: {got}, published: {expected}."
            if split == "train" and category in spec.unconfirmed_train:
                notes.append(f"{sentence} That number is not confirmed.")
            else:
                yield sentence


def _files(index: DatasetIndex) -> Iterator[Path]:
    for sample in index.train + index.test:
        yield sample.image
        if sample.mask is not None:
            yield from mask_files(sample.mask)


def _in_threads(look: Callable[[Sample], Decoded], index: DatasetIndex, progress: Progress | None) -> list[str]:
    """Look at everything, on all cores: what is wrong with which sample."""
    samples = index.train + index.test
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results: Iterable[Decoded] = pool.map(look, samples)
        if progress is not None:
            results = progress(results, len(samples))
        return [problem for problem in results if problem]


def _header(sample: Sample) -> Decoded:
    try:
        if sample.image.stat().st_size:
            require_header(sample.image)
    except DatasetError as error:
        return str(error)
    return ""


def _decode(sample: Sample) -> Decoded:
    try:
        size = read_image(sample.image).size
        mask = None if sample.mask is None else read_mask(sample.mask)
    except DatasetError as error:
        return str(error)
    return "" if mask is None or mask.size == size else of_another_size(sample, mask.size, size)
