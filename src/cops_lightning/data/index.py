"""From a name or a path to a checked index of samples: the one place where sources are told apart."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import Sample, Split
from cops_lightning.data.catalog import CATALOG, find_spec
from cops_lightning.data.layouts import Entry, Reading, read_folders, read_meta, read_rows, read_table
from cops_lightning.data.spec import DatasetSpec, Folders, Layout, Table
from cops_lightning.data.spec_file import read_spec_file
from cops_lightning.data.templates import Template
from cops_lightning.data.tree import Tree, subfolders

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
OWN_LAYOUTS = (
    Folders(
        "folders: {category}/{split}/{defect}",
        ("{category}/{split:train|test}/{defect}/{stem}",),
        ("{category}/ground_truth/{defect}/{stem}_mask", "{category}/ground_truth/{defect}/{stem}"),
    ),
    Folders(
        "folders: {split}/{defect}",
        ("{split:train|test}/{defect}/{stem}",),
        ("ground_truth/{defect}/{stem}_mask", "ground_truth/{defect}/{stem}"),
    ),
    Folders("pairs: images and masks", ("{*:images|image|imgs}/{stem}",), ("{*:masks|mask}/{stem}",)),
    Folders(
        "class folders",
        (
            "{defect:good|ok|normal|no|free|healthy|negative}/{stem}",
            "{defect:anomaly|anomalous|abnormal|bad|ko|ng|defect|defective|yes|positive}/{stem}",
        ),
    ),
)


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
            raise DatasetError(f"{self.name} has no category '{unknown[0]}'; it has: {', '.join(self.categories)}.")
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
            role = f"{sample.category}\t{sample.split}\t{int(sample.anomalous)}"
            lines.append(f"{self._relative(sample.image)}\t{_size(sample.image)}\t{role}")
            if sample.mask is not None:
                lines.append(f"{self._relative(sample.mask)}\t{_size(sample.mask)}\tmask")
        return hashlib.blake2b("\n".join(sorted(lines)).encode(), digest_size=16).hexdigest()

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


def load_index(
    source: str | Path,
    root: str | Path | None = None,
    *,
    paths: Mapping[str, str | Path] | None = None,
    data_root: str | Path | None = None,
) -> DatasetIndex:
    """Index a dataset, given by name or by path.

    `source` is a name of the catalog, or a path to a folder, a meta.json, a CSV or JSON-lines table, or a YAML spec.
    A name is looked for in `paths[name]`, else in `root`, else in `data_root`; each may be the folder of the dataset
    itself or one that holds it under a usual name. For a table or a spec, `root` is where its paths start.

    Raises DatasetError where nothing is found, where the layout is not known, and where images and masks do not pair.
    """
    located = locate(source, root, paths=paths, data_root=data_root)
    reading = located.reading
    if reading.problems:
        more = f" (and {len(reading.problems) - 1} more problems)" if len(reading.problems) > 1 else ""
        raise DatasetError(f"{located.spec.name} in {located.root}: {reading.problems[0]}{more}")
    return located.index()


@dataclass(frozen=True)
class Located:
    """A dataset that was found and read, before anything is made of its problems."""

    spec: DatasetSpec
    root: Path
    reading: Reading

    def index(self) -> DatasetIndex:
        """The samples, in the order of the published categories, then of paths."""
        order = {category: place for place, category in enumerate(self.spec.categories)}
        entries = sorted(self.reading.entries, key=lambda e: (order.get(e.category, 0), e.category, e.image))
        samples = [_sample(self.spec.name, self.root, entry) for entry in entries]
        return DatasetIndex(
            self.spec.name,
            self.root,
            self.reading.layout,
            tuple(sample for sample in samples if sample.split == "train"),
            tuple(sample for sample in samples if sample.split == "test"),
            self.reading.has_masks,
            self.spec.mask_threshold,
            tuple(self.reading.notes),
        )


def locate(
    source: str | Path,
    root: str | Path | None = None,
    *,
    paths: Mapping[str, str | Path] | None = None,
    data_root: str | Path | None = None,
) -> Located:
    """Find and read a dataset as `load_index` does, but leave the problems inside it to the caller."""
    path = Path(source)
    root = None if root is None else Path(root)
    if isinstance(source, str) and (spec := CATALOG.get(source) or _named(source, path)):
        given = (paths or {}).get(spec.name, root if root is not None else data_root)
        if given is None:
            raise DatasetError(
                f"Where is {spec.name}? Give the folder that holds it, for instance one that contains "
                f"'{spec.folders[0]}', or its own path."
            )
        return _locate_published(spec, Path(given))
    if not path.exists():
        find_spec(str(source))  # raises, with the nearest names
    suffix = path.suffix.lower()
    if path.is_dir():
        return _recognise(DatasetSpec(path.resolve().name, OWN_LAYOUTS), path)
    if suffix in {".yaml", ".yml"}:
        spec, spec_root = read_spec_file(path)
        return _locate_own(spec, root or spec_root)
    name = path.resolve().parent.name if path.stem == "meta" else path.stem
    spec = DatasetSpec(name, ())
    return _located(spec, root or path.parent, _read_listing(path, spec, root or path.parent))


def _named(source: str, path: Path) -> DatasetSpec | None:
    """The catalog row a word means, unless it is a path."""
    return None if path.exists() or "/" in source or "." in source else find_spec(source)


def _locate_published(spec: DatasetSpec, root: Path) -> Located:
    if root.is_file():
        return _located(spec, root.parent, _read_listing(root, spec, root.parent))
    return _recognise(spec, root)


def _locate_own(spec: DatasetSpec, root: Path) -> Located:
    (layout,) = spec.layouts
    if isinstance(layout, Table):
        return _located(spec, root, read_rows(root / layout.file, layout, spec, root))
    return _recognise(spec, root)


def _read_listing(path: Path, spec: DatasetSpec, root: Path) -> Reading:
    if path.suffix.lower() == ".json":
        return read_meta(path, spec, root)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_rows(path, Table(f"table {path.name}", path.name), spec, root)
    raise DatasetError(f"{path} is no dataset: expected a folder, or a file that ends in .json, .csv, .jsonl or .yaml.")


def _located(spec: DatasetSpec, root: Path, reading: Reading) -> Located:
    if not reading.entries and not reading.problems:
        raise DatasetError(f"{spec.name} in {root} has no images.")
    return Located(spec, root, reading)


def _recognise(spec: DatasetSpec, root: Path) -> Located:
    """Read the folder in the layout that explains most of its images, or say what the nearest layout misses."""
    for folder in _inside_wrappers(spec, root):
        reading = _best_reading(spec, tree := Tree.walk(folder))
        if reading is not None:
            return Located(spec, folder, reading)
    raise DatasetError(f"{spec.name}: {_explain(spec, tree)}")


def _inside_wrappers(spec: DatasetSpec, root: Path) -> Iterable[Path]:
    """Folders in the root that usually hold the dataset, innermost first, then the root itself."""
    usual = {name.casefold() for name in (*spec.folders, *spec.wrappers)}
    if usual and root.is_dir():
        for name in subfolders(root):
            if name.casefold() in usual:
                yield from _inside_wrappers(spec, root / name)
    yield root


def _best_reading(spec: DatasetSpec, tree: Tree) -> Reading | None:
    readings = [reading for layout in spec.layouts if (reading := _try(layout, spec, tree)) is not None]
    if readings:
        return max(readings, key=lambda reading: len(reading.entries))
    listings = [path for path in tree.files if path.startswith("meta") and path.endswith(".json")]
    if listings:
        return read_meta(tree.root / listings[0], spec, tree.root, set(tree.files).__contains__)
    return None


def _try(layout: Layout, spec: DatasetSpec, tree: Tree) -> Reading | None:
    if isinstance(layout, Folders):
        reading = read_folders(tree, layout, spec)
    elif layout.file.casefold() in {path.casefold() for path in tree.files}:
        reading = read_table(tree, layout, spec)
    else:
        return None
    return reading if reading.entries else None


def _sample(name: str, root: Path, entry: Entry) -> Sample:
    key = f"{name}/{entry.category}/{entry.image}"
    mask = None if entry.mask is None else root / entry.mask
    return Sample(name, entry.category, entry.split, entry.defect, root / entry.image, mask, entry.anomalous, key)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DatasetError(f"{path} cannot be measured ({error.strerror or error}). Restore the file.") from error


def _explain(spec: DatasetSpec, tree: Tree) -> str:
    """Why no layout was recognised: nothing there, the wrong level, or the first thing that differs."""
    images = tree.images()
    if not images:
        return f"{tree.root} holds no image files. Give the folder of the dataset."
    above = tree
    for levels in (1, 2):
        above = above.seen_from_above()
        if above.root != above.root.parent and _best_reading(spec, above) is not None:
            return (
                f"{tree.root} is {_levels(levels)} too low: the root of this dataset is {above.root}. Give that folder."
            )
    if (below := _right_level_below(spec, tree, 1)) is not None:
        return f"{tree.root} is too high: the root of this dataset is {below}. Give that folder."
    return f"{tree.root} has no known layout. {_nearest(spec, tree.root, images)}"


def _levels(count: int) -> str:
    return "one level" if count == 1 else f"{count} levels"


def _right_level_below(spec: DatasetSpec, tree: Tree, depth: int) -> Path | None:
    for name in tree.top():
        inner = tree.below(name)
        if not inner.images():
            continue
        if _best_reading(spec, inner) is not None:
            return inner.root
        if depth < 3 and (deeper := _right_level_below(spec, inner, depth + 1)) is not None:
            return deeper
    return None


def _nearest(spec: DatasetSpec, root: Path, images: list[str]) -> str:
    """The layout whose places agree with the files for the longest part, and where they part."""
    best: tuple[float, str] = (-1.0, "")
    for layout in spec.layouts:
        if isinstance(layout, Table):
            best = max(best, (0.0, f"The nearest is '{layout.name}', whose table '{layout.file}' is missing."))
            continue
        for text in layout.images:
            agreed, sentence = _first_difference(Template(text), text, root, images)
            best = max(best, (agreed, f"The nearest is '{layout.name}' ({text}): {sentence}"), key=lambda b: b[0])
    return best[1]


def _first_difference(template: Template, text: str, root: Path, images: list[str]) -> tuple[float, str]:
    remaining = [path.split("/") for path in images]
    written = text.strip("/").split("/")
    for place, pattern in enumerate(template.parts):
        last = place == len(template.parts) - 1
        fitting = [
            parts for parts in remaining if len(parts) > place and pattern.fullmatch(parts[place])
            and (len(parts) == place + 1) == last
        ]  # fmt: skip
        if not fitting:
            example = remaining[0]
            folder = root.joinpath(*example[:place])
            got = example[place] if place < len(example) else "nothing"
            kind = "a file" if last else "a folder"
            return place / len(template.parts), f"expected {kind} '{written[place]}' in {folder}, found '{got}'."
        remaining = fitting
    return 1.0, f"the words in {'/'.join(remaining[0])} are not those of this dataset."
