"""A disk that fails: files below a folder that cannot be opened, written or renamed, once each."""

import builtins
import errno
import io
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from safetensors import SafetensorError

from cops_lightning.features import store


class Site(NamedTuple):
    """What is done to which file: open (for writing), write, replace, rename, mkdir, link; connect (sqlite), save
    (safetensors), which write by code of their own.
    """

    what: str
    path: str


class FailingDisk:
    """Notes the sites below a folder in `sites`; raises `error`, a number of `errno`, once at the one called `at`.

    `at` counts sites from 0; None fails nowhere. A path is noted as seen from the folder, with what is random in it
    left out.
    """

    def __init__(self, folder: Path, at: int | None = None, error: int = errno.ENOSPC) -> None:
        self.folder, self.at, self.error = folder, at, error
        self.sites: list[Site] = []

    def due(self, what: str, path: Any) -> bool:
        """Note a site; whether it is the one that fails."""
        name = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        if not name.startswith(f"{self.folder}{os.sep}"):
            return False
        self.sites.append(
            Site(what, re.sub(r"\.?\b[0-9a-f]{32}\b|/[0-9a-f]{2}(?=/|$)", "", os.path.relpath(name, self.folder)))
        )
        return len(self.sites) - 1 == self.at

    def failure(self, *names: Any) -> OSError:
        """What the system raises."""
        return OSError(self.error, os.strerror(self.error), *names)


@contextmanager
def failing(disk: FailingDisk) -> Iterator[FailingDisk]:
    """Let everything in Python see this disk."""
    real_open = builtins.open

    class Raw(io.FileIO):
        """A file whose first write fails."""

        failed = False

        def write(self, data: Any) -> int:
            if not self.failed:
                self.failed = True
                raise disk.failure()
            return super().write(data)

    def open_(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, *more, **options)
        if disk.due("open", file):
            raise disk.failure(str(file))
        if not disk.due("write", file):
            return real_open(file, mode, buffering, *more, **options)
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        if "b" in mode:
            return buffered
        names = dict(zip(("encoding", "errors", "newline"), more, strict=False))
        text = io.TextIOWrapper(buffered, **names, **{k: v for k, v in options.items() if k != "closefd"})
        text.mode = mode  # as of `open`
        return text

    def failing_call(what: str) -> Callable[..., Any]:
        real = getattr(os, what)

        def call(path: Any, *more: Any, **options: Any) -> Any:
            if disk.due(what, path):
                raise disk.failure(path, None, *more[:1] if what in ("replace", "rename", "link") else ())
            return real(path, *more, **options)

        return call

    real_connect, real_save = sqlite3.connect, store.save_file

    class Connection(sqlite3.Connection):
        """A database whose disk refuses what is written."""

        def executemany(self, *_: Any) -> sqlite3.Cursor:
            raise sqlite3.OperationalError(f"database or disk: {os.strerror(disk.error)}")

    def connect(path: Any, **options: Any) -> sqlite3.Connection:
        return real_connect(path, **options, **({"factory": Connection} if disk.due("connect", path) else {}))

    def save(tensors: Any, path: Any, **options: Any) -> None:
        if disk.due("save", path):
            raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(disk.error)}")
        real_save(tensors, path, **options)

    with (
        patch("sqlite3.connect", connect),
        patch("cops_lightning.features.store.save_file", save),
        patch("builtins.open", open_),
        patch("io.open", open_),
        patch("os.replace", failing_call("replace")),
        patch("os.rename", failing_call("rename")),
        patch("os.mkdir", failing_call("mkdir")),
        patch("os.link", failing_call("link")),
    ):
        yield disk
