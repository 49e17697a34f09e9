"""Images to predict on: folders, files, pages of a TIFF, patterns, lists of files, arrays, and mixtures of these."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from cops_lightning.core.errors import DatasetError, told
from cops_lightning.core.files import regular
from cops_lightning.data.readers.images import ReadingError, as_rgb, opened, read_image
from cops_lightning.data.readers.remote import Remote, files_at, is_url, require_no_password, without_scheme
from cops_lightning.data.readers.tree import Tree, image_names, images_below, nearest_existing

Source: TypeAlias = "str | Path | np.ndarray | Image.Image | Picture | Iterable[Any]"
LIST = ".txt"  # a file of this suffix names images, one in a line
LONGEST_LINE = 10_000  # bytes of a line of it: more than a path may have
_PAGED = (".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """An image that can be opened: a page of a file, on this machine or in a store, or pixels in memory.

    `name` says where it is from: the path or URL, with the page in brackets where a file has several, or "image N" for
    the N-th of pixels in memory, counted from 1.
    """

    name: str
    path: Path | Remote | None = None
    page: int = 0
    pixels: np.ndarray | Image.Image | None = None

    def open(self) -> Image.Image:
        """The image in RGB, turned as EXIF says. Raises ReadingError where it cannot be decoded in full."""
        if self.pixels is None:
            assert self.path is not None
            return read_image(self.path, page=self.page)
        if isinstance(self.pixels, Image.Image):
            return as_rgb(self.pixels, self.name)
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ReadingError(
                f"{self.name} came as an array of {self.pixels.dtype} {self.pixels.shape}; expected uint8 (height, "
                "width, 3), RGB."
            )
        return Image.fromarray(np.ascontiguousarray(self.pixels))


def pictures(source: Source) -> Iterator[Picture]:
    """The images of a source, in order, one at a time.

    A source is an image file; a TIFF of several pages; a folder, with its subfolders, by name; a pattern, such as
    "photos/**/*.png"; a .txt file that names one image in a line, relative to its own folder or by its URL; a URL that
    fsspec knows, of an image, of a folder or prefix, or a pattern with *, where file:// is a path; an RGB array
    (h, w, 3) of uint8; a Pillow image; or anything that gives sources. Raises DatasetError where nothing is found
    or a URL holds a password.
    """
    return _found(source, itertools.count(1), top=True)


def folders_read(source: str | Path) -> list[Path]:
    """The folders of which a source is all images, however deep: what is written there would be read too."""
    path = _local(source)
    if path.is_dir():
        return [path]
    if path.exists() or "**" not in path.parts:
        return []
    return [Path(folder) for folder in glob.glob(os.path.join(*path.parts[: path.parts.index("**")] or ["."]))]


def _found(source: Any, numbers: Iterator[int], top: bool = False) -> Iterator[Picture]:
    if isinstance(source, Picture):
        yield source
    elif isinstance(source, np.ndarray | Image.Image):
        yield Picture(f"image {next(numbers)}", pixels=source)
    elif isinstance(source, str) and is_url(source):
        require_no_password(source)
        yield from _of_url(source, top)
    elif isinstance(source, str | Path):
        require_no_password(str(source))
        if isinstance(source, str) and not without_scheme(source):  # which a path takes for the folder that one is in
            raise DatasetError("A source of images is an empty text; expected a path, a pattern or a URL.")
        yield from _of_path(_local(source), top)
    elif isinstance(source, Iterable):
        for one in source:
            yield from _found(one, numbers)
    else:
        raise DatasetError(
            f"A source of images is a {type(source).__name__}; expected a path, a pattern, an RGB array, a Pillow "
            "image, or several of them."
        )


def _of_path(path: Path, top: bool) -> Iterator[Picture]:
    if path.is_dir():
        for image in images_below(path):
            yield from _pages(image)
    elif path.exists():
        yield from _listed(path) if path.suffix.lower() == LIST else _pages(path)
    elif glob.has_magic(str(path)):
        matched = [file for file in _matching(path) if image_names((str(file),))]
        if not matched:
            raise DatasetError(f"No image matches {path}. {nearest_existing(path)}")
        for file in matched:
            yield from _pages(file)
    elif top:
        raise DatasetError(f"{path} does not exist. {nearest_existing(path)}")
    else:  # one of many, whose place is kept
        yield Picture(str(path), path)


def _local(path: str | Path) -> Path:
    """A path, in which "~" is the user's folder, as a shell leaves it within quotes and behind "="."""
    path = without_scheme(path) if isinstance(path, str) else path
    return Path(path) if os.path.lexists(path) else Path(os.path.expanduser(path))


def _matching(pattern: Path) -> list[Path]:
    """The files that match a pattern, by name. Links that lead round in circles are followed once, unlike by glob."""
    parts = pattern.parts
    if "**" not in parts:
        return sorted(map(Path, glob.glob(str(pattern))), key=str)
    first = parts.index("**")
    above = glob.glob(os.path.join(*parts[:first])) if first else ["."]
    return sorted(
        (
            Path(folder) / file
            for folder in above
            if os.path.isdir(folder)
            for file in Tree.walk(Path(folder)).files()
            if _fits(tuple(file.split("/")), parts[first:])
        ),
        key=str,
    )


def _fits(names: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a pattern, in which ** is any number of folders."""
    if not wanted or not names:
        return not names and set(wanted) <= {"**"}
    if wanted[0] == "**":
        return _fits(names, wanted[1:]) or _fits(names[1:], wanted)
    return fnmatchcase(names[0], wanted[0]) and _fits(names[1:], wanted[1:])


def _of_url(url: str, top: bool) -> Iterator[Picture]:
    if url.lower().endswith(LIST):
        raise DatasetError(f"{url} is read as a list of images from this machine alone. Copy it here.")
    one_of_many = not top and "*" not in url and image_names((url,))  # which nobody asks the store about
    for file in [Remote(url)] if one_of_many else files_at(url):
        yield from _pages(file)


def _listed(path: Path) -> Iterator[Picture]:
    named = False
    for text in _lines(path):
        named = True
        require_no_password(text)
        yield from _pages(Remote(text) if is_url(text) else path.parent / _local(text))
    if not named:
        raise DatasetError(f"{path} names no image. Expected the path of an image in every line.")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text that are not empty; a mark of UTF-8 at its start is no part of the first."""
    way_out = "Expected a text file in UTF-8 with the path of an image in every line."
    with told(DatasetError, f"{path} cannot be read", way_out), regular(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise DatasetError(f"Line {number} of {path} is longer than any path. {way_out}")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield text


def _pages(path: Path | Remote) -> Iterator[Picture]:
    count = _page_count(path) if path.suffix.lower() in _PAGED else 1
    for page in range(count):
        yield Picture(f"{path}[{page + 1}]" if count > 1 else str(path), path, page)


def _page_count(path: Path | Remote) -> int:
    if isinstance(path, Path) and not path.is_file():  # a FIFO would never open
        return 1
    try:
        with opened(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # which is said when the image is read
        return 1
