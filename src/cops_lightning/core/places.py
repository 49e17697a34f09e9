"""Where a command may write: apart from runs and from the data that it reads, and over nothing but what is its own."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import RECORD, read_start

NOTHING = "Nothing was written. Name another."


def within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder, or lies below it."""
    return path.resolve().is_relative_to(folder.resolve())


def existing(path: Path) -> Path:
    """The absolute path, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def require_no_run(option: str, path: Path) -> None:
    """Raise CopsError where a file or folder that is to be written is the folder of a run, or lies in one."""
    resolved = path.resolve()
    run = next((folder for folder in (resolved, *resolved.parents) if (folder / RECORD).is_file()), None)
    if run is not None:
        where = "is" if run == resolved else f"lies in {run},"
        raise CopsError(f"{option} is {path}, which {where} the folder of a run. {NOTHING}")


def require_apart(option: str, path: Path, read: Iterable[Path], what: str = "whose images are read") -> None:
    """Raise CopsError where a file or folder that is to be written is, or lies in, one that is read."""
    for folder in read:
        if within(path, folder):
            where = "" if path.resolve() == folder.resolve() else f"which lies in {folder}, "
            raise CopsError(f"{option} is {path}, {where}{what}. {NOTHING}")


def require_writable(path: Path) -> None:
    """Raise OSError where a file cannot be made at a path, before there is anything to write."""
    there = existing(path.absolute().parent)
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_own(option: str, path: Path, what: str, is_own: Callable[[bytes], bool]) -> None:
    """Raise CopsError where something is at `path` that is not `what` the command writes there, by how it begins, and
    OSError where nothing can be written.
    """
    require_writable(path)
    if not path.exists():
        return
    if path.is_dir() or not is_own(read_start(path)):
        raise CopsError(f"{option} is {path}, which is there and is no {what}. {NOTHING}")
