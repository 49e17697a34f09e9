"""Which layout a folder has: the one that explains most of its images."""

from cops_lightning.data.readers.layouts import Reading, read_folders
from cops_lightning.data.readers.listings import read_meta, read_table
from cops_lightning.data.readers.spec import DatasetSpec, Folders, Layout
from cops_lightning.data.readers.tree import Tree


def best_reading(spec: DatasetSpec, tree: Tree) -> Reading | None:
    """The reading with the most images, of equals the one with the fewest problems.

    A meta.json counts only where no layout finds an image: beside a known layout it is a stray file of other programs.
    """
    readings = [reading for layout in spec.layouts if (reading := read_layout(layout, spec, tree)).entries]
    if readings:
        return max(readings, key=lambda reading: (len(reading.entries), -len(reading.problems)))
    for name in tree.folders.get("", ()):
        if name.casefold().startswith("meta") and name.casefold().endswith(".json"):
            reading = read_meta(tree.root / name, spec, tree.files().__contains__)
            if reading.entries:
                return reading
    return None


def read_layout(layout: Layout, spec: DatasetSpec, tree: Tree) -> Reading:
    """What one layout makes of a folder; without entries where it does not fit."""
    if isinstance(layout, Folders):
        return read_folders(tree, layout, spec)
    if (table := tree.holds(layout.file)) is None:
        return Reading(layout.name)
    return read_table(tree.root / table, layout, spec, tree.files().__contains__)
