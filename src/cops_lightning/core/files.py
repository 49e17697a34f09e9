"""Files: written so that a reader sees all of one or none, hashed, and the folder where configurations are.

A file that grows by lines is the exception: what is in it stays whole, however its writer ends.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from io import BufferedReader
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TextIO
from uuid import uuid4

from filelock import FileLock, Timeout

PACKAGED = Path(__file__).parents[1] / "conf"
PARTIAL = ".partial"
BLOCK = 2**20
LARGEST = 2**28  # bytes of a text that is read whole
LOCK = ".lock"
CHECKOUT = Path(__file__).parents[3] / "conf"
# What every run leaves in its folder.
RECORD, RESULTS = "run.json", "results.csv"


def conf_folder() -> Path:
    """The folder of configurations: inside the installed package, or of the checkout that is installed editable."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


@contextmanager
def regular(path: Path) -> Iterator[BufferedReader]:
    """A regular file to read; OSError for anything else, such as a FIFO or a device, which would never end."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # of a FIFO at once, without its writer
    with open(opened, "rb") as file:
        require_regular(os.fstat(opened), path)
        yield file


def require_regular(status: os.stat_result, path: Path) -> None:
    """Raise OSError unless a status is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_whole(path: Path, most: int = LARGEST) -> bytes:
    """The content of a regular file. Raises OSError for anything else, and for more than `most` bytes."""
    with regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return content


def read_start(path: Path, size: int = 1024) -> bytes:
    """How a file begins; nothing where there is no regular file that can be read."""
    try:
        with regular(path) as file:
            return file.read(size)
    except OSError:
        return b""


def digest(path: Path) -> str | None:
    """SHA-256 of a file's content, None where there is no regular file that can be read."""
    try:
        with regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def results_changed(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a run's results are other than those that its run.json, whose content is `record`, was written for."""
    written = record.get("results_sha256")
    return written is not None and written != digest(folder / RESULTS)


def cache_folder(given: str | Path | None = None) -> Path:
    """Where images are rendered to and features are kept: `given`, else the environment variable COPS_CACHE."""
    return Path(given or os.environ.get("COPS_CACHE", "").strip() or "~/.cache/cops_lightning").expanduser()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, whose folder is made; its file takes the place of `path` if the block succeeds.

    If the block raises, the temporary file is removed and `path` stays as it was; an OSError then names `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, Path.touch) as partial:
            yield partial
            partial.replace(path)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(PARTIAL):  # writing itself names none
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """A text file for `replacing`: UTF-8, in which what is not Unicode in a name is an escape, such as \\udce9."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        yield file


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A temporary folder beside `destination`, whose parent is made; it becomes `destination` if the block succeeds.

    An empty `destination` is replaced. If the block raises, nothing is left behind. Raises OSError if `destination`
    holds something by then.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _beside(destination, lambda partial: partial.mkdir(exist_ok=True)) as partial:
        yield partial
        partial.replace(destination)


@contextmanager
def growing(path: Path) -> Iterator[TextIO]:
    """A text file to which lines are added; its folder is made. What a kill left of a last line is cut off first.

    UTF-8, in which what is not Unicode is an escape. Each line that ends is handed to the system at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        require_regular(path.stat(), path)
    with path.open("ab") as file:
        file.truncate(_whole_lines(path))
    try:
        with path.open("a", newline="", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
            yield file
    except OSError as error:
        if error.filename is None:  # writing itself names none
            error.filename = str(path)
        raise


def _whole_lines(path: Path) -> int:
    """How many bytes a file's whole lines take."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            if found := file.read(end - start).rfind(b"\n") + 1:
                return start + found
            end = start
    return 0


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder for this user alone among the system's temporary ones. It goes with the block; after a kill, with the
    next one of any name.
    """
    with _beside(Path(gettempdir()) / name, lambda partial: partial.mkdir(mode=0o700, exist_ok=True)) as partial:
        yield partial


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process alone may work in `folder`, for as long as the block lasts.

    The claim ends with the process, however that ends; the file `.lock` may stay and means nothing by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def _beside(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A file or folder beside `path` that is locked as long as its process lives, and removed with the block."""
    _clear(path.parent.absolute())
    # Not the process's number: threads share it, and so do processes of several machines that share a folder.
    partial = path.with_name(f".{path.name[:40]}.{uuid4().hex}{PARTIAL}")
    locked = _lock(partial, make)
    try:
        yield partial
    finally:
        _remove(partial)
        os.close(locked)


def _lock(partial: Path, make: Callable[[Path], object]) -> int:
    while True:
        make(partial)
        with suppress(FileNotFoundError):  # taken for litter in the moment before it is locked
            opened = os.open(partial, os.O_RDONLY)
            with suppress(OSError):  # where the file system has no locks nothing is taken for litter either
                flock(opened, LOCK_EX)
            if os.fstat(opened).st_nlink:
                return opened
            os.close(opened)


@cache
def _clear(folder: Path) -> None:
    """Remove temporary files and folders whose process is gone, killed while it wrote; once for each folder.

    Those are ours alone: other programs call theirs so too, without 32 digits before.
    """
    for partial in filter(_is_ours, folder.glob(f".*{PARTIAL}")):
        with suppress(OSError):
            opened = os.open(partial, os.O_RDONLY | os.O_NONBLOCK)
            try:
                flock(opened, LOCK_EX | LOCK_NB)
                _remove(partial)
            finally:
                os.close(opened)


def _is_ours(partial: Path) -> bool:
    return re.fullmatch(rf"\..*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}", partial.name, re.DOTALL) is not None


def clear_litter(root: Path) -> None:
    """Remove what killed writers left in a folder and in those directly in it; what is being written stays."""
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    for folder in (root, *folders):
        _clear(folder.absolute())


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)
