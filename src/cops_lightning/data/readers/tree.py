"""One walk over a folder: the names of its files, folder by folder, with stray files left out."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.reporting import warn

_SUFFIXES = "bmp dib gif j2k jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = tuple(_SUFFIXES.split())
# Files that usually lie beside images and are none.
_BESIDE = "txt md csv tsv json jsonl ndjson yaml yml xml html pdf py sh ini cfg log zip tar gz db lock"
BESIDE = frozenset(_BESIDE.split())
STRAY_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})  # compared without case
MAX_DEPTH = 10  # the deepest known layout has five levels
MAX_FOLDERS = 100_000
_IMAGE = re.compile(rf".*\.(?:{'|'.join(IMAGE_SUFFIXES)})", re.IGNORECASE | re.DOTALL)

Ids = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Tree:
    """The files below `root`: from relative folders, with slashes and "" for the root, to the names of their files.

    `deeper` are folders with folders in them that were not looked into, as they lie `MAX_DEPTH` levels below.
    """

    root: Path
    folders: Mapping[str, tuple[str, ...]]
    deeper: Sequence[str] = ()

    @classmethod
    def walk(cls, root: Path) -> "Tree":
        """Read the names of all folders and files below `root`; no file is opened or measured.

        Hidden files and folders and those of `STRAY_NAMES` are left out; links to folders are followed, but not to one
        that the link lies in. Raises DatasetError where `root` is not a folder, a folder in it cannot be read, or what
        is called like an image is no regular file, such as a FIFO or a device, which would never end.
        """
        if not root.exists():
            raise DatasetError(f"{root} does not exist. {nearest_existing(root)}")
        if not root.is_dir():
            raise DatasetError(f"{root} is a file, but a folder was expected. Give the folder of the dataset.")
        folders: dict[str, tuple[str, ...]] = {}
        deeper: list[str] = []
        for walked, (folder, names) in enumerate(_walk(root, "", MAX_DEPTH, frozenset({_id(root)}), deeper)):
            if walked >= MAX_FOLDERS:
                raise DatasetError(
                    f"{root} holds more than {MAX_FOLDERS} folders. Give the folder of one dataset, without links that "
                    "lead round in circles."
                )
            if names:
                folders[folder] = names
        return cls(root, folders, deeper)

    @cached_property
    def pictures(self) -> Mapping[str, list[str]]:
        """The names of the files in each folder that end like an image, in any case."""
        return {folder: image_names(names) for folder, names in self.folders.items()}

    def images(self) -> list[str]:
        """The relative paths of the files whose names end like an image."""
        return [_join(folder, name) for folder, names in self.pictures.items() for name in names]

    def files(self) -> set[str]:
        """The relative paths of all files."""
        return {_join(folder, name) for folder, names in self.folders.items() for name in names}

    def unread(self) -> Counter[str]:
        """How many files there are of each kind that is neither an image nor usually beside images, by suffix."""
        suffixes = (name.rpartition(".") for names in self.folders.values() for name in names)
        kinds = Counter(suffix.lower() for stem, dot, suffix in suffixes if stem and dot)
        return Counter({kind: count for kind, count in kinds.items() if kind not in BESIDE.union(IMAGE_SUFFIXES)})

    def too_deep(self) -> str:
        """A sentence on what was not looked into; empty where everything was."""
        if not self.deeper:
            return ""
        return f"What lies more than {MAX_DEPTH} levels deep was not looked into, first in {self.deeper[0]}."

    def holds(self, file: str) -> str | None:
        """The path of a file as it is written here, whatever its case; None where it is not here."""
        return next((path for path in self.files() if path.casefold() == file.casefold()), None)

    def top(self) -> list[str]:
        """The names of the folders and files directly below the root; folders that hold no file are left out."""
        return sorted({folder.split("/", 1)[0] for folder in self.folders if folder} | set(self.folders.get("", ())))

    def below(self, name: str) -> "Tree":
        """The part of the tree in a folder, seen from there."""
        inside = {f: names for f, names in self.folders.items() if f == name or f.startswith(name + "/")}
        return Tree(self.root / name, {folder[len(name) + 1 :]: names for folder, names in inside.items()})

    def seen_from_above(self) -> "Tree":
        """The same files as seen from the parent of the root."""
        name = self.root.name
        return Tree(self.root.parent, {f"{name}/{folder}".rstrip("/"): names for folder, names in self.folders.items()})


def images_below(root: Path) -> list[Path]:
    """The images of a folder and its subfolders, by name. Raises DatasetError where there is none."""
    tree = Tree.walk(root)
    names = sorted(tree.images())
    if tree.deeper:
        warn(f"{root}: {tree.too_deep()}")
    if not names:
        raise DatasetError(f"{root} holds no image. Expected files that end in .{', .'.join(IMAGE_SUFFIXES)}.")
    return [root / name for name in names]


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


def nearest_existing(path: Path) -> str:
    """Where a path stops to exist, and what is there instead, in a sentence."""
    for parent in path.parents:
        if parent.is_dir():
            names = subfolders(parent)
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"
            return f"The nearest folder that does is {parent}; the folders in it: {shown}."
    return "Give the folder of the dataset."


def is_stray(name: str) -> bool:
    """Whether a file or folder is left behind by a system rather than part of a dataset."""
    return name[0] == "." or name.lower() in STRAY_NAMES


def _walk(
    folder: Path | str, relative: str, depth: int, above: Ids, deeper: list[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    names, inner = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_stray(entry.name):
                    continue
                if entry.is_dir():
                    inner.append((entry.name, entry.path, entry.is_symlink()))
                elif entry.is_file():
                    names.append(entry.name)
                elif _IMAGE.fullmatch(entry.name):
                    kind = "a link to a file that does not exist" if not os.path.exists(entry) else "no regular file"
                    raise DatasetError(f"{entry.path} is {kind}. Remove it, or put the image in its place.")
        yield relative, tuple(sorted(names))
        if inner and not depth:
            deeper.append(relative)
            return
        for name, path, linked in sorted(inner):
            own = _id(path) if linked else None
            if own not in above:
                passed = above | {own or _id(path)}
                yield from _walk(path, _join(relative, name), depth - 1, passed, deeper)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _id(folder: Path | str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _unreadable(folder: Path | str, error: OSError) -> DatasetError:
    return DatasetError(
        f"{folder} cannot be read ({error.strerror or error}). "
        "Every folder of a dataset must be readable; check its permissions."
    )
