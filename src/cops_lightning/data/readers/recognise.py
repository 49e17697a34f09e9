"""Which layout a folder has: the one that explains most of its images."""

from cops_lightning.data.readers.layouts import Reading, read_folders
from cops_lightning.data.readers.listings import read_meta, read_table
from cops_lightning.data.readers.spec import DatasetSpec, Folders, Layout
from cops_lightning.data.readers.tree import Tree


def best_reading(spec: DatasetSpec, tree: Tree) -> Reading | None:
    """The reading with the most images and masks, of equals the one with the fewest problems.

    A meta.json counts only where no layout makes sense of the folder: beside a known one it is a stray file of other
    programs.
    """
    readings = [reading for layout in spec.layouts if (reading := read_layout(layout, spec, tree)).entries]
    best = max(
        readings, key=lambda reading: (claimed(reading), -len(reading.problems), not reading.guessed), default=None
    )
    if best is not None and (spec.counts or not (best.problems or best.lacks_metrics)):
        return best
    for name in tree.folders.get("", ()):
        if name.casefold().startswith("meta") and name.casefold().endswith(".json"):
            reading = read_meta(tree.root / name, spec, tree.files().__contains__)
            if reading.entries:
                return reading
    return best


def claimed(reading: Reading) -> int:
    """How many images and masks a layout finds a place for."""
    return len(reading.entries) + sum(entry.mask is not None for entry in reading.entries)


def read_layout(layout: Layout, spec: DatasetSpec, tree: Tree) -> Reading:
    """What one layout makes of a folder; without entries where it does not fit."""
    if isinstance(layout, Folders):
        return read_folders(tree, layout, spec)
    if (table := tree.holds(layout.file)) is None:
        return Reading(layout.name)
    return read_table(tree.root / table, layout, spec, tree.files().__contains__)
