"""The content of files as hashes, remembered so that a second run need not read the bytes again."""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import xxhash

from cops_lightning.core.errors import CacheError, CopsError, DatasetError
from cops_lightning.core.files import cache_folder, require_regular
from cops_lightning.core.reporting import warn

MEMORY = "hashes.sqlite"  # in the cache folder
BLOCK = 2**20
AT_ONCE = 500  # rows that are asked for
# A file system's clock ticks coarsely: what changed so shortly ago may change again without a trace.
SETTLED_NS = 2 * 10**9
TABLE = """CREATE TABLE IF NOT EXISTS contents (
    path BLOB, kind TEXT, size INTEGER, modified INTEGER, changed INTEGER, inode INTEGER, digest TEXT, checksum TEXT,
    PRIMARY KEY (path, kind))"""

Stamp = tuple[int, int, int, int]


class FileHashes:
    """Hashes of files in hexadecimal, remembered by path, size, times of change and inode.

    A copy that keeps size and time of the file it replaces (`cp -p`, `rsync -t`, `tar`) is read all the same: the time
    at which the file system changed a file, or the file's inode, gives it away. What is remembered lies in the default
    folder of the cache, has a checksum of its own, and may be shared by several processes.

    Args:
        new: makes a hash; xxh3 of 128 bits by default.
        error: what is raised for a file that cannot be read.
    """

    def __init__(self, new: Callable[[], Any] = xxhash.xxh3_128, error: type[CopsError] = DatasetError) -> None:
        self.memory, self.new, self.error = cache_folder() / MEMORY, new, error
        self.kind: str = new().name

    def of(self, paths: Sequence[Path]) -> list[str]:
        """The hash of each file's content. Raises `error` where one cannot be read, naming it.

        A memory that cannot be used costs time alone, and is said once.
        """
        try:
            return self._remembered(paths) if paths else []
        except CacheError as error:
            _warn_once(str(error))
            return [self._hash(path)[1] for path in paths]

    def _remembered(self, paths: Sequence[Path]) -> list[str]:
        stamps = {path: self._stamp(path) for path in dict.fromkeys(paths)}
        try:
            with closing(self._connect()) as connection:
                connection.execute(TABLE)
                known = self._known(connection, stamps)
                new = {path: self._hash(path) for path in stamps if path not in known}
                rows = [
                    _checked(os.fsencode(os.path.abspath(path)), self.kind, *stamp, digest)
                    for path, (stamp, digest, settled) in new.items()
                    if settled
                ]
                with connection:
                    connection.executemany(f"INSERT OR REPLACE INTO contents VALUES ({', '.join('?' * 8)})", rows)
        except (sqlite3.Error, UnicodeError) as error:
            raise CacheError(
                f"{self.memory} cannot be used ({error}): files are hashed anew by every command. Delete it if it "
                "is damaged."
            ) from error
        known |= {path: digest for path, (_, digest, _) in new.items()}
        return [known[path] for path in paths]

    def _connect(self) -> sqlite3.Connection:
        try:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(
                f"{self.memory.parent} cannot be made ({error.strerror}): files are hashed anew by every command. Name "
                "another by the environment variable COPS_CACHE."
            ) from error
        return sqlite3.connect(self.memory, timeout=60)

    def _known(self, connection: sqlite3.Connection, stamps: dict[Path, Stamp]) -> dict[Path, str]:
        keys = [os.fsencode(os.path.abspath(path)) for path in stamps]
        rows: dict[bytes, tuple[Any, ...]] = {}
        for start in range(0, len(keys), AT_ONCE):
            asked = keys[start : start + AT_ONCE]
            query = f"SELECT * FROM contents WHERE kind = ? AND path IN ({', '.join('?' * len(asked))})"
            rows |= {row[0]: row for row in connection.execute(query, (self.kind, *asked))}
        return {
            path: row[6]
            for key, (path, stamp) in zip(keys, stamps.items(), strict=True)
            if (row := rows.get(key)) is not None and row == _checked(key, self.kind, *stamp, row[6])
        }

    def _stamp(self, path: Path) -> Stamp:
        try:
            return _stamp(path)
        except OSError as error:
            raise self._unreadable(path, error.strerror) from error

    def _hash(self, path: Path) -> tuple[Stamp, str, bool]:
        """A file's hash, the stamp it had meanwhile, and whether any later change will show in the stamp."""
        began, before = time.time_ns(), self._stamp(path)
        try:
            found = self._content(path)
        except OSError as error:
            raise self._unreadable(path, error.strerror) from error
        if self._stamp(path) != before:
            raise self._unreadable(path, "it changes while it is read")
        return before, found, began - before[2] > SETTLED_NS

    def _content(self, path: Path) -> str:
        return _hashed(path, self.new)

    def _unreadable(self, path: Path, reason: str | None) -> CopsError:
        return self.error(f"{path} cannot be read: {reason}. Restore the file.")


def content_of(path: Path) -> str | None:
    """What `hashes_of` gives of a file, read anew; None where it is no regular file that can be read."""
    try:
        return _read_anew(path, _stamp(path))
    except (OSError, ValueError):  # of a name with a NUL, which a list may hold
        return None


def contents_of(paths: Sequence[Path]) -> list[str | None]:
    """`content_of` each file, remembered where all can be read."""
    try:
        return [*hashes_of(paths)]
    except (DatasetError, ValueError):
        return [content_of(path) for path in paths]


@lru_cache(maxsize=1)  # the pages of a file come one after the other
def _read_anew(path: Path, _stamp: Stamp) -> str:
    return _hashed(path, xxhash.xxh3_128)


def _stamp(path: Path) -> Stamp:
    """What tells of a file that it was changed. Raises OSError where it is no regular file."""
    status = path.stat()
    require_regular(status, path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hashed(path: Path, new: Callable[[], Any]) -> str:
    state = new()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
    return str(state.hexdigest())


def settings_hash(content: Any) -> str:
    """Twelve hexadecimal digits of plain values, the same for the same numbers, however they were written: 1 is 1.0."""
    return hashlib.sha256(json.dumps(_plain(content), sort_keys=True, default=str).encode()).hexdigest()[:12]


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return int(content) if isinstance(content, float) and content.is_integer() else content


@cache
def _warn_once(sentence: str) -> None:
    warn(sentence)


def _checked(*row: Any) -> tuple[Any, ...]:
    return (*row, xxhash.xxh3_64_hexdigest(repr(row).encode()))


def hashes_of(paths: Sequence[Path]) -> list[str]:
    """The hash of each file's content, xxh3 of 128 bits. Raises DatasetError where a file cannot be read, naming it."""
    return FileHashes().of(paths)


def sha256_of(path: Path, error: type[CopsError] = DatasetError) -> str:
    """SHA-256 of a file's content. Raises `error` where it cannot be read, naming it."""
    return FileHashes(hashlib.sha256, error).of([path])[0]
