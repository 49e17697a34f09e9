"""Why a folder was not recognised: nothing there, the wrong level, or the first thing that differs."""

import os
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.catalog import CATALOG, OWN_LAYOUTS
from cops_lightning.data.readers.layouts import Reading, by_folder
from cops_lightning.data.readers.recognise import best_reading, read_layout
from cops_lightning.data.readers.spec import DatasetSpec, Folders, Table
from cops_lightning.data.readers.templates import Template
from cops_lightning.data.readers.tree import Tree, subfolders


def explain(spec: DatasetSpec, tree: Tree) -> str:
    """One or two sentences: what was found in the folder, what was expected, and what to do."""
    if not (images := tree.images()):
        held = f"; it holds: {', '.join(tree.top()[:8])}" if tree.folders else ""
        deep = f" {tree.too_deep()}" if tree.deeper else ""
        return f"{tree.root} has no image files{held}.{deep} Give the folder of the dataset."
    if (low := too_low(spec, tree)) is not None:
        return low
    if (below := _right_level_below(spec, tree)) is not None:
        while below.parent != tree.root and below.name.casefold() in {name.casefold() for name in spec.wrappers}:
            below = below.parent
        levels = len(below.relative_to(tree.root).parts)
        return f"{tree.root} is {_levels(levels)} too high: the root of this dataset is {below}. Give that folder."
    for layout in spec.layouts:
        if isinstance(layout, Table) and (problems := read_layout(layout, spec, tree).problems):
            return f"{tree.root}: {problems[0]}"
    if published := published_name(spec, tree):
        return published
    nearest = _nearest(spec, tree.root, images)
    if spec.layouts != OWN_LAYOUTS:
        return f"{tree.root} has no known layout. {nearest}"
    return (
        f"{tree.root} has no known layout: {by_folder(images)}. {nearest} Describe it by a YAML spec of a few lines; "
        "`cops-data --help` shows one."
    )


def published_name(spec: DatasetSpec, tree: Tree) -> str:
    """A sentence that names the published dataset which a folder of one's own holds; empty where it is none, whole."""
    for known in CATALOG.values() if spec.layouts == OWN_LAYOUTS else ():
        if _is_whole(known, best_reading(known, tree)):
            return f"{tree.root} looks like {known.title}. Give the name '{known.name}' with this folder as root."
    return ""


def _is_whole(spec: DatasetSpec, reading: Reading | None) -> bool:
    """Whether a folder holds all test images of a published dataset, so that its name would work."""
    expected = sum(counts.normal + counts.anomalous for counts in spec.counts.values())
    return reading is not None and not reading.problems and len(reading.tested) == expected


def too_low(spec: DatasetSpec, tree: Tree, most: int = 3) -> str | None:
    """A sentence that names the right root, if the folder is a part of the dataset, at `most` so many levels below."""
    above = Tree(tree.root.absolute(), tree.folders)
    for levels in range(1, most + 1):
        if above.root == above.root.parent:
            return None
        above = above.seen_from_above()
        seen = _with_tables(spec, above)
        reading = best_reading(spec, _with_siblings(seen) if levels == 1 else seen)
        if reading is not None and not (levels == 1 and reading.lacks_all_masks):
            where = f"{tree.root} is {_levels(levels)} too low"
            return f"{where}: the root of this dataset is {above.root}. Give that folder."
    return None


def _levels(count: int) -> str:
    return "one level" if count == 1 else f"{count} levels"


def _with_tables(spec: DatasetSpec, tree: Tree) -> Tree:
    """The tree with the tables of the dataset that lie beside the folder it was seen from."""
    folders = dict(tree.folders)
    for layout in spec.layouts:
        if isinstance(layout, Table) and (tree.root / layout.file).is_file():
            folder, _, name = layout.file.rpartition("/")
            folders[folder] = (*folders.get(folder, ()), name)
    return Tree(tree.root, folders)


def _with_siblings(tree: Tree) -> Tree:
    """The tree with the files, one level down, of the folders beside the one it was seen from."""
    folders = dict(tree.folders)
    known = {folder.split("/", 1)[0] for folder in folders}
    try:
        for name in [name for name in subfolders(tree.root) if name not in known][:100]:
            with os.scandir(tree.root / name) as entries:
                folders[name] = tuple(entry.name for entry in entries if entry.is_file())
    except (OSError, DatasetError):
        return tree  # what cannot be read there is no part of the folder that was asked for
    return Tree(tree.root, folders)


def _right_level_below(spec: DatasetSpec, tree: Tree, depth: int = 3) -> Path | None:
    """The folder in the tree that holds most of the dataset, nearest to the root."""
    inner = [below for name in tree.top() if (below := tree.below(name)).images()]
    readings = [(reading, below.root) for below in inner if (reading := best_reading(spec, below))]
    fitting = [(len(reading.entries), root) for reading, root in readings if not reading.lacks_metrics or spec.counts]
    if fitting:
        return max(fitting)[1]
    deeper = (_right_level_below(spec, below, depth - 1) for below in inner) if depth else iter(())
    return next((root for root in deeper if root is not None), None)


def _nearest(spec: DatasetSpec, root: Path, images: list[str]) -> str:
    """The layout whose places agree with the files for the longest part, and where they part."""
    agreements: list[tuple[float, str]] = []
    for layout in spec.layouts:
        for place in layout.images if isinstance(layout, Folders) else layout.places:
            agreed, difference = _first_difference(place, spec, root, images)
            if isinstance(layout, Table) and agreed == 1:
                difference = f"the table '{layout.file}' is missing. Copy it from the archive of the publisher."
            agreements.append((agreed, f"The nearest is '{layout.name}', {place}: {difference}"))
    return max(agreements, key=lambda agreement: agreement[0])[1]


def _first_difference(place: str, spec: DatasetSpec, root: Path, images: list[str]) -> tuple[float, str]:
    """The share of the path components that some image agrees with, and what differs in the next one."""
    written, template = place.split("/"), Template(place)
    fitting = [path.split("/") for path in images]
    for depth, (word, pattern) in enumerate(zip(written, template.parts, strict=True)):
        last = depth == len(written) - 1

        def fits(parts: list[str]) -> bool:
            if len(parts) <= depth or (len(parts) == depth + 1) != last or not pattern.fullmatch(parts[depth]):  # noqa: B023
                return False
            return word != "{category}" or spec.category_of(parts[depth]) is not None  # noqa: B023

        agreeing = [parts for parts in fitting if fits(parts)]
        if not agreeing:
            found = sorted({parts[depth] for parts in fitting if len(parts) > depth})
            names = f" ({', '.join(spec.categories)})" if word == "{category}" and spec.categories else ""
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            where = root.joinpath(*fitting[0][:depth])
            kind = "a file" if last else "a folder"
            return depth / len(written), f"expected {kind} '{word}'{names} in {where}, found {shown or 'nothing'}."
        fitting = agreeing
    return 1.0, f"the words in {'/'.join(fitting[0])} are not those of this dataset."
