"""The content of files as hashes, remembered so that a second run need not read the bytes again."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import xxhash

from cops_lightning.core.errors import CacheError, DatasetError

BLOCK = 2**20


class FileHashes:
    """Hashes of files (xxh3, 128 bits, hexadecimal), remembered by path, size and time of change in nanoseconds.

    Several processes may share `database`. A file that is written anew gets a new time, and is read again.
    """

    def __init__(self, database: Path) -> None:
        self.database = database

    def of(self, paths: Sequence[Path]) -> list[str]:
        """The hash of each file's content. Raises DatasetError where one cannot be read, naming it."""
        stamps = {path: _stamp(path) for path in dict.fromkeys(path.absolute() for path in paths)}
        try:
            with closing(self._connect()) as connection:
                known = dict(self._known(connection, stamps))
                new = {path: _hash(path) for path in stamps if path not in known}
                with connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                        [(str(path), *stamps[path], digest) for path, digest in new.items()],
                    )
        except sqlite3.Error as error:
            raise CacheError(f"{self.database} cannot be used ({error}). Delete it; it is made anew.") from error
        known |= new
        return [known[path.absolute()] for path in paths]

    def _connect(self) -> sqlite3.Connection:
        try:
            self.database.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{self.database.parent} cannot be made ({error.strerror}). Name another.") from error
        connection = sqlite3.connect(self.database, timeout=60)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)"
        )
        return connection

    def _known(self, connection: sqlite3.Connection, stamps: dict[Path, tuple[int, int]]) -> list[tuple[Path, str]]:
        found = []
        query = "SELECT digest FROM files WHERE path = ? AND size = ? AND mtime_ns = ?"
        for path, stamp in stamps.items():
            if row := connection.execute(query, (str(path), *stamp)).fetchone():
                found.append((path, row[0]))
        return found


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Restore the file.") from error
    return status.st_size, status.st_mtime_ns


def _hash(path: Path) -> str:
    state = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}. Restore the file.") from error
    return state.hexdigest()
