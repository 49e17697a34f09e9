"""Images in a store that fsspec knows, such as s3://bucket/prefix/: found by name, and read one at a time."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from cops_lightning.core.errors import DatasetError, not_installed, reason, told
from cops_lightning.core.files import BLOCK
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.readers.tree import IMAGE_SUFFIXES, MAX_DEPTH, image_names, is_stray

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

LARGEST = 2**30  # bytes of a file that is read whole, before anything says how many pixels there are
# Whose servers need not know of parts of files, and whose folders are pages of links, which may lead round in circles.
_WEB = "http"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)
_LOCAL = re.compile("^(file|local)://")
_PASSWORD = re.compile(r"://[^/?#]*:[^/?#]*@")  # in any part of a chain


@dataclass(frozen=True)
class Remote:
    """A file in a store, with the parts of a `Path` that reading an image needs."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its last part."""
        return PurePosixPath(self.url.partition("::")[0]).name

    @property
    def suffix(self) -> str:
        """That of its name."""
        return PurePosixPath(self.name).suffix

    @contextmanager
    def open(self, _mode: str = "rb") -> Iterator[BinaryIO]:
        """Its bytes, of which only those are fetched that are read, where the store can do so."""
        store, path = _store(self.url)
        with store.open(path, "rb", **({"block_size": 0} if _is_web(store) else {})) as file:
            yield file if file.seekable() and not _is_web(store) else _whole(file, self.url)

    def read_bytes(self) -> bytes:
        """All of them. Raises DatasetError for a file of more than LARGEST."""
        with self.open() as file:
            return _whole(file, self.url).getvalue()


def is_url(source: str) -> bool:
    """Whether a source is the URL of a store rather than a path, with or without file:// before it."""
    return _URL.match(source) is not None and not _LOCAL.match(source)


def without_scheme(source: str) -> str:
    """A path without the file:// or local:// that may stand before it: such a file is one of this machine."""
    return _LOCAL.sub("", source)


def require_no_password(source: str) -> None:
    """Raise DatasetError, which does not quote it, where a source holds a password, in whatever part of a chain."""
    if _PASSWORD.search(source):
        raise DatasetError(
            f"{source.partition('://')[0]}://...: the URL holds a password, which would be written beside every "
            "prediction. Leave it out, and put it where the store's package looks for it, or into fsspec's own "
            "configuration."
        )


def files_at(url: str) -> list[Remote]:
    """The images that a URL names: one, those below a folder or a prefix, or those of a pattern with *, by name.

    Raises DatasetError where there is none, where the store cannot be asked, or where what it needs is not installed.
    """
    with told(DatasetError, f"{url} cannot be read", "See that it exists, and that it may be read from here."):
        store, path = _store(url)
        if "*" not in path and not url.endswith("/") and store.isfile(path):
            return [Remote(url)]
        if "*" in path:
            found, base = store.glob(path), path.partition("*")[0].rpartition("/")[0]
        else:
            found, base = store.find(path, maxdepth=MAX_DEPTH + 1 if _is_web(store) else None), path
        images, head = _images(found, base, _is_web(store)), _head(url, path)
    if not images:
        expected = f"Expected files that end in .{', .'.join(IMAGE_SUFFIXES)}; a folder's URL ends in a slash."
        raise DatasetError(f"{url} holds no image. {expected}")
    rest = "".join(url.partition("::")[1:])
    names = (store.unstrip_protocol(file) if head is None else head + file.lstrip("/") for file in images)
    return [Remote(name + rest) for name in names]


def _store(url: str) -> "tuple[AbstractFileSystem, str]":
    """The store of a URL, and what the file is called there."""
    import fsspec
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0]
    _require_no_endless_file(url)
    try:
        store, path = fsspec.url_to_fs(url)
    except ImportError as error:
        package = str(known_implementations.get(protocol, {}).get("class", "fsspec")).partition(".")[0]
        if package == "fsspec":
            raise DatasetError(f"{protocol}:// cannot be read: {reason(error)}.") from None
        raise DatasetError(not_installed(f"{protocol}://", package)) from None
    except ValueError as error:
        known = fsspec.available_protocols()
        if protocol in known:
            raise
        near = did_you_mean(protocol, known)
        raise DatasetError(f"{url} cannot be read: fsspec knows no {protocol}://.{near}") from error
    return store, path


def _require_no_endless_file(url: str) -> None:
    """Raise DatasetError where a chain ends at what is there on this machine, but no file: a FIFO would never open."""
    last = url.rpartition("::")[2]
    if not is_url(last):
        path = Path(without_scheme(last)).expanduser()
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DatasetError(f"{url} cannot be read: {path} is no regular file. Name a file.")


def _is_web(store: "AbstractFileSystem") -> bool:
    return _WEB in (store.protocol if isinstance(store.protocol, tuple) else (store.protocol,))


def _images(found: Iterable[str], base: str, web: bool) -> list[str]:
    """The images of what was found, by name, without hidden and stray ones, and without what lies elsewhere."""
    base = base.rstrip("/") + "/" if base.strip("/") else ""
    images = []
    for file in found:
        name = file.removeprefix(base)
        parts = (unquote(name) if web else name).split("/")  # a server takes %2e%2e for the folder above
        if file.startswith(base) and image_names((name,)) and not any(part and is_stray(part) for part in parts):
            images.append(file)
    return sorted(images)


def _head(url: str, path: str) -> str | None:
    """What stands in a URL before what the file is called in its store; None where that is not part of the URL."""
    first, bare = url.partition("::")[0], path.strip("/")
    if not bare:
        return first if first.endswith("/") else f"{first}/"
    start = first.rstrip("/").removesuffix(bare)
    return start if len(start) < len(first.rstrip("/")) else None


def _whole(file: Any, url: str) -> BytesIO:
    content = BytesIO()
    while part := file.read(BLOCK):
        if content.tell() + len(part) > LARGEST:
            raise DatasetError(f"{url} has more than {LARGEST // 2**20} MB, more than are read of a file there.")
        content.write(part)
    content.seek(0)
    return content
