"""One walk over a folder: the names of its files, folder by folder, with stray files left out."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cops_lightning.core.errors import DatasetError

IMAGE_SUFFIXES = ("bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp")
STRAY_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})  # compared without case
MAX_DEPTH = 10  # the deepest known layout has five levels; a link to a parent must not be followed for ever
_IMAGE = re.compile(rf".*\.(?:{'|'.join(IMAGE_SUFFIXES)})", re.IGNORECASE)


@dataclass(frozen=True)
class Tree:
    """The files below `root`: from relative folders, with slashes and "" for the root, to the names of their files."""

    root: Path
    folders: Mapping[str, tuple[str, ...]]

    @classmethod
    def walk(cls, root: Path) -> "Tree":
        """Read the names of all folders and files below `root`; no file is opened or measured.

        Hidden files and folders and those of `STRAY_NAMES` are left out; links to folders are followed.
        Raises DatasetError where `root` is not a folder or a folder in it cannot be read.
        """
        if not root.exists():
            raise DatasetError(f"{root} does not exist. {nearest_existing(root)}")
        if not root.is_dir():
            raise DatasetError(f"{root} is a file, but a folder was expected. Give the folder of the dataset.")
        return cls(root, dict(_walk(root, "", MAX_DEPTH)))

    def images(self) -> list[str]:
        """The relative paths of the files whose names end like an image, in any case."""
        return [_join(folder, name) for folder, names in self.folders.items() for name in image_names(names)]

    def files(self) -> set[str]:
        """The relative paths of all files."""
        return {_join(folder, name) for folder, names in self.folders.items() for name in names}

    def holds(self, file: str) -> str | None:
        """The path of a file as it is written here, whatever its case; None where it is not here."""
        folder, _, wanted = file.casefold().rpartition("/")
        for place, names in self.folders.items():
            if place.casefold() == folder:
                for name in names:
                    if name.casefold() == wanted:
                        return _join(place, name)
        return None

    def top(self) -> list[str]:
        """The names of the folders and files directly below the root; folders that hold no file are left out."""
        return sorted({folder.split("/", 1)[0] for folder in self.folders if folder} | set(self.folders.get("", ())))

    def below(self, name: str) -> "Tree":
        """The part of the tree in a folder, seen from there."""
        inner = {folder[len(name) + 1 :]: names for folder, names in self.folders.items() if _is_in(folder, name)}
        return Tree(self.root / name, inner)

    def seen_from_above(self) -> "Tree":
        """The same files as seen from the parent of the root."""
        name = self.root.name
        return Tree(self.root.parent, {f"{name}/{folder}".rstrip("/"): names for folder, names in self.folders.items()})


def image_names(names: tuple[str, ...]) -> list[str]:
    """The names that end like an image file, in upper or lower case."""
    fits = _IMAGE.fullmatch
    return [name for name in names if fits(name)]


def subfolders(folder: Path) -> list[str]:
    """The names of the folders directly in a folder, sorted. Raises DatasetError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_stray(entry.name))
    except OSError as error:
        raise _unreadable(folder, error) from error


def is_stray(name: str) -> bool:
    """Whether a file or folder is left behind by a system rather than part of a dataset."""
    return name.startswith(".") or name.lower() in STRAY_NAMES


def nearest_existing(path: Path) -> str:
    """Where a path stops to exist, and what is there instead, in a sentence."""
    for parent in path.parents:
        if parent.is_dir():
            names = subfolders(parent)
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
            return f"The nearest folder that does is {parent}; the folders in it: {shown}."
    return "Give the folder of the dataset."


def _walk(folder: Path | str, relative: str, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    names, inner = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] == "." or entry.name.lower() in STRAY_NAMES:
                    continue
                if entry.is_dir():
                    inner.append(entry)
                else:
                    names.append(entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if names:
        yield relative, tuple(sorted(names))
    if depth:
        for entry in sorted(inner, key=lambda entry: entry.name):
            yield from _walk(entry.path, _join(relative, entry.name), depth - 1)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_in(folder: str, name: str) -> bool:
    return folder == name or folder.startswith(name + "/")


def _unreadable(folder: Path | str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{folder} cannot be read ({error.strerror or error}). "
        "Every folder of a dataset must be readable; check its permissions."
    )
