"""One walk over a folder: the sorted relative paths of its files, with stray files left out."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cops_lightning.core.errors import DatasetError

IMAGE_SUFFIXES = frozenset(["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "ppm", "pgm"])
STRAY_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})  # compared without case
MAX_DEPTH = 10  # the deepest known layout has five levels; a link to a parent must not walk for ever


@dataclass(frozen=True)
class Tree:
    """The files below `root`: `files` are relative, slash-separated and sorted."""

    root: Path
    files: Sequence[str]

    @classmethod
    def walk(cls, root: Path) -> "Tree":
        """Read the folder names and file names below `root`, without opening or measuring a file.

        Hidden files and folders and those of `STRAY_NAMES` are left out; links to folders are followed.
        Raises DatasetError where `root` is not a folder or a folder in it cannot be read.
        """
        if not root.exists():
            raise DatasetError(f"{root} does not exist. {nearest_existing(root)}")
        if not root.is_dir():
            raise DatasetError(f"{root} is a file, but a folder was expected.")
        return cls(root, sorted(_files(root, "", MAX_DEPTH)))

    def images(self) -> list[str]:
        """The files whose name ends like an image, in any case."""
        return [path for path in self.files if is_image(path)]

    def top(self) -> list[str]:
        """The names directly below the root that hold files, or are files."""
        return sorted({path.split("/", 1)[0] for path in self.files})

    def below(self, folder: str) -> "Tree":
        """The part of the tree in `folder`, seen from there."""
        prefix = folder + "/"
        return Tree(self.root / folder, [path[len(prefix) :] for path in self.files if path.startswith(prefix)])

    def seen_from_above(self) -> "Tree":
        """The same files as seen from the parent of the root."""
        return Tree(self.root.parent, [f"{self.root.name}/{path}" for path in self.files])


def is_image(path: str) -> bool:
    """Whether a path ends like an image file, in upper or lower case."""
    return path.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def is_stray(name: str) -> bool:
    """Whether a file or folder is left behind by a system rather than part of a dataset."""
    return name.startswith(".") or name.lower() in STRAY_NAMES


def subfolders(folder: Path) -> list[str]:
    """The names of the folders directly in a folder, sorted. Raises DatasetError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_stray(entry.name))
    except OSError as error:
        raise _unreadable(folder, error) from error


def _files(folder: Path | str, prefix: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_stray(entry.name):
                    continue
                if not entry.is_dir():
                    yield prefix + entry.name
                elif depth:
                    yield from _files(entry.path, f"{prefix}{entry.name}/", depth - 1)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path | str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{folder} cannot be read ({error.strerror or error}). "
        "Every folder of a dataset must be readable; check its permissions."
    )


def nearest_existing(path: Path) -> str:
    """Say where a path stops to exist, and what is there instead."""
    for parent in path.parents:
        if parent.is_dir():
            try:
                names = sorted(name for name in os.listdir(parent) if not is_stray(name))
            except OSError:
                names = []
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
            return f"The nearest folder that does is {parent}, which holds: {shown}."
    return "Give the folder of the dataset."
