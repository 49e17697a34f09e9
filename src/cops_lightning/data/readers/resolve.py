"""From a name or a path to a checked index: the one place that distinguishes the kinds of sources."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.catalog import OWN_LAYOUTS, spec_or_none, unknown_dataset
from cops_lightning.data.readers.explain import explain, published_name, too_low
from cops_lightning.data.readers.index import DatasetIndex, make_samples
from cops_lightning.data.readers.index_file import read_header, read_index
from cops_lightning.data.readers.layouts import Reading, by_folder
from cops_lightning.data.readers.listings import TABLE_SUFFIXES, on_disk, read_meta, read_table
from cops_lightning.data.readers.recognise import best_reading
from cops_lightning.data.readers.spec import INDEX_NAME, DatasetSpec, Table
from cops_lightning.data.readers.spec_file import read_spec_file
from cops_lightning.data.readers.tree import Tree, nearest_existing, subfolders

DATA_ROOT = "COPS_DATA_ROOT"  # the environment variable that says where datasets lie


def load_index(
    source: str | Path,
    root: str | Path | None = None,
    *,
    walk: bool = False,
) -> DatasetIndex:
    """Index a dataset that is given by name or by path.

    `source` is a name of the catalog, or a path to a folder, a meta.json, a CSV or JSON-lines table, an index file or a
    YAML spec. A name is looked for in `root`, else where the environment variable COPS_DATA_ROOT says; either may be
    the folder of the dataset, a file that lists it, or a folder that holds it under a usual name. For a file, `root` is
    where its paths start, by default its own folder or what the file says. With `walk`, index files in a folder are not
    used.

    Raises DatasetError where nothing is found, where the layout is not known, and where images and masks do not pair.
    """
    found = locate(source, root, walk=walk)
    if isinstance(found, DatasetIndex):
        return found
    if problems := found.reading.problems:
        more = f" (Further problems: {len(problems) - 1}; `cops-data check` lists them.)" if len(problems) > 1 else ""
        raise DatasetError(f"{found.spec.name} in {found.root}: {problems[0]}{more}")
    return found.index()


@dataclass(frozen=True)
class Located:
    """A dataset that was found and read, before anything is made of its problems."""

    spec: DatasetSpec
    root: Path
    reading: Reading

    def index(self) -> DatasetIndex:
        """The samples, in the order of the published categories, then of paths."""
        spec, reading = self.spec, self.reading
        order = {category: place for place, category in enumerate(spec.categories)}
        entries = sorted(reading.entries, key=lambda e: (order.get(e.category, 0), e.category, e.image))
        samples = make_samples(spec.name, self.root, entries)
        return DatasetIndex(
            spec.name,
            self.root,
            reading.layout,
            tuple(sample for sample in samples if sample.split == "train"),
            tuple(sample for sample in samples if sample.split == "test"),
            reading.has_masks,
            spec.mask_threshold,
            tuple(reading.notes),
            "anomalous" if spec.counts and reading.blank == "error" else reading.blank,  # publishers say what is what
        )


def locate(
    source: str | Path,
    root: str | Path | None = None,
    *,
    exact: bool = False,
    walk: bool = False,
) -> Located | DatasetIndex:
    """Find and read a dataset as `load_index` does, but leave the problems inside it to the caller.

    With `exact`, the folder given must be that of the dataset itself; with `walk`, index files in it are not used.
    """
    path = expanded(source)
    if isinstance(source, str) and path.name == source and not path.suffix:
        if (spec := spec_or_none(source)) is not None:
            given = root if root is not None else os.environ.get(DATA_ROOT)
            return _locate_published(spec, path if given is None and path.is_dir() else given, exact, walk)
        if not path.exists():
            raise unknown_dataset(source)
    if not path.exists():
        raise DatasetError(f"{path} does not exist. {nearest_existing(path)}")
    if path.is_dir():
        if root is not None:
            raise DatasetError(
                f"{path} is the folder of a dataset, and {root} was given as one too. Give the folder alone; only "
                f"names of the catalogue, which has no {path.name}, and files that list or describe a dataset take "
                "another."
            )
        if not walk and (path / INDEX_NAME).is_file():
            return read_index(path / INDEX_NAME, path)  # whatever name it gives the dataset
        return _recognise(DatasetSpec(path.resolve().name, OWN_LAYOUTS), path, exact, walk)
    if not path.is_file():
        raise DatasetError(f"{path} is no regular file. Give a folder, or a file that lists or describes a dataset.")
    if path.suffix.lower() in {".yaml", ".yml"}:
        spec, own_root = read_spec_file(path)
        (layout,) = spec.layouts
        base = own_root if root is None else expanded(root)
        if isinstance(layout, Table):
            return _not_empty(Located(spec, base, read_table(base / layout.file, layout, spec, on_disk(base))))
        return _recognise(spec, base, exact, walk=True)  # an index file there may stem from another description
    name = path.resolve().parent.name if path.stem == "meta" else path.stem
    return _listed(DatasetSpec(name, ()), path, None if root is None else expanded(root))


def places_of(source: str | Path, root: str | Path | None = None) -> list[Path]:
    """The folders and listing files that `load_index` would read for the same arguments, before any of them is read.

    Raises DatasetError where a spec cannot be read.
    """
    path = expanded(source)
    named = isinstance(source, str) and path.name == source and not path.suffix
    if named and (spec := spec_or_none(str(source))) is not None:
        given = root if root is not None else os.environ.get(DATA_ROOT) or (source if path.is_dir() else None)
        folders = [] if given is None else list(_usual_folders(spec, expanded(given), exact=False))
        return folders[:-1] or folders  # what holds a dataset may hold other things
    if path.suffix.lower() in {".yaml", ".yml"} and path.is_file():
        return [read_spec_file(path)[1] if root is None else expanded(root)]
    return [path] if path.exists() else []


def expanded(path: str | Path) -> Path:
    """A path in which ~ is the folder of a user. Raises DatasetError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DatasetError(f"{path} is no path here: {error}") from error


def _locate_published(spec: DatasetSpec, given: str | Path | None, exact: bool, walk: bool) -> Located | DatasetIndex:
    if given is None:
        raise DatasetError(
            f"Where is {spec.name}? Give its folder, or one that holds it under a usual name such as "
            f"'{spec.folders[0]}', or name such a folder in the environment variable {DATA_ROOT}."
        )
    root = expanded(given)
    found = _listed(spec, root, None) if root.is_file() else _recognise(spec, root, exact, walk)
    if isinstance(found, DatasetIndex) and found.name != spec.name:
        raise DatasetError(f"{root} is an index of {found.name}, not of {spec.name}. Give the index of {spec.name}.")
    return found


def _listed(spec: DatasetSpec, path: Path, root: Path | None) -> Located | DatasetIndex:
    """A dataset given by the file that lists it."""
    base = path.parent if root is None else root
    if path.suffix.lower() == ".json":
        return _not_empty(Located(spec, base, read_meta(path, spec, on_disk(base))))
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DatasetError(
            f"{path} is no dataset. Expected a folder, or a file that ends in .json, .csv, .jsonl or .yaml."
        )
    if read_header(path) is not None:
        return read_index(path, root)
    return _not_empty(
        Located(spec, base, read_table(path, Table(f"table {path.name}", path.name), spec, on_disk(base)))
    )


def _not_empty(found: Located) -> Located:
    if not found.reading.entries and not found.reading.problems:
        raise DatasetError(f"{found.spec.name} in {found.root} lists no images. Expected at least one.")
    _say_what_is_missing(found, None)
    return found


def _say_what_is_missing(found: Located, tree: Tree | None) -> None:
    """What is not read of a folder, what a named dataset lacks, and where no metric can be computed."""
    spec, reading = found.spec, found.reading
    tested = reading.tested
    expected = sum(counts.normal + counts.anomalous for counts in spec.counts.values())
    if spec.counts and len(tested) != expected:
        missing = [name for name in spec.categories if name not in {entry.category for entry in tested}]
        lacking = f", none of {', '.join(missing)}" if missing else ""
        reading.notes.append(f"This is not all of {spec.title}: {len(tested)} of {expected} test images{lacking}.")
    if reading.unclaimed:
        reading.notes.append(
            f"Image files in no place of this layout, left out: {len(reading.unclaimed)} "
            f"({by_folder(reading.unclaimed)})."
        )
    if tree is not None and tree.deeper:
        reading.notes.append(tree.too_deep())
    if tree is not None and (kinds := tree.unread()):
        listed = ", ".join(f"{count} .{kind}" for kind, count in kinds.most_common(5))
        reading.notes.append(f"Files of kinds that are not read: {listed}.")
    if reading.lacks_metrics and not reading.problems:
        unread = f" {reading.notes[-1]}" if tree is not None and tree.unread() else ""
        advice = "" if tree is None else published_name(spec, tree)
        reading.problems.append(
            f"no metric can be computed: none of the {len(tested)} test images is known to be normal, and there are no "
            f"masks.{unread} {advice or 'Add normal images or masks, or describe the folder by a YAML spec.'}"
        )


def _recognise(spec: DatasetSpec, root: Path, exact: bool, walk: bool) -> Located | DatasetIndex:
    """Read the folder in the layout that explains most of its images, or say what the nearest layout misses."""
    for folder in _usual_folders(spec, root, exact):
        header = None if walk or not (folder / INDEX_NAME).is_file() else read_header(folder / INDEX_NAME)
        if header is not None and header.name == spec.name:
            return read_index(folder / INDEX_NAME, folder)
        if (reading := best_reading(spec, tree := Tree.walk(folder))) is not None:
            if spec.counts and reading.lacks_all_masks and (low := too_low(spec, tree, most=1)) is not None:
                raise DatasetError(f"{spec.name}: {low}")
            found = Located(spec, folder, reading)
            _say_what_is_missing(found, tree)
            return found
    raise DatasetError(f"{spec.name}: {explain(spec, tree)}")


def _usual_folders(spec: DatasetSpec, root: Path, exact: bool) -> Iterator[Path]:
    """Folders in the root that usually hold the dataset, innermost first, then the root itself."""
    usual = {name.casefold() for name in (spec.wrappers if exact else (*spec.folders, *spec.wrappers))}
    if usual and root.is_dir():
        for name in subfolders(root):
            if name.casefold() in usual:
                yield from _usual_folders(spec, root / name, exact)
    yield root
