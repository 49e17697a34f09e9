"""Images to predict on: folders, files, pages of a TIFF, patterns, lists of files, arrays, and mixtures of these."""

import glob
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from cops_lightning.core.errors import DatasetError, told
from cops_lightning.data.readers.images import ReadingError, opened, read_image
from cops_lightning.data.readers.remote import Remote, files_at, is_url
from cops_lightning.data.readers.tree import image_names, images_below, nearest_existing

Source: TypeAlias = "str | Path | np.ndarray | Image.Image | Picture | Iterable[Any]"
LIST = ".txt"  # a file of this suffix names images, one in a line
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
            return self.pixels.convert("RGB")
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
    fsspec knows, of an image, of a folder or prefix, or a pattern with *; an RGB array (h, w, 3) of uint8; a Pillow
    image; or anything that gives sources. Raises DatasetError where nothing is found.
    """
    return _found(source, itertools.count(1), top=True)


def _found(source: Any, numbers: Iterator[int], top: bool = False) -> Iterator[Picture]:
    if isinstance(source, Picture):
        yield source
    elif isinstance(source, np.ndarray | Image.Image):
        yield Picture(f"image {next(numbers)}", pixels=source)
    elif isinstance(source, str) and is_url(source):
        yield from _of_url(source, top)
    elif isinstance(source, str | Path):
        yield from _of_path(Path(source), top)
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
        matched = (file for file in sorted(glob.iglob(str(path), recursive=True)) if image_names((file,)))
        first = next(matched, None)
        if first is None:
            raise DatasetError(f"No image matches {path}. {nearest_existing(path)}")
        for file in itertools.chain([first], matched):
            yield from _pages(Path(file))
    elif top:
        raise DatasetError(f"{path} does not exist. {nearest_existing(path)}")
    else:  # one of many, whose place is kept
        yield Picture(str(path), path)


def _of_url(url: str, top: bool) -> Iterator[Picture]:
    if url.lower().endswith(LIST):
        raise DatasetError(f"{url} is read as a list of images from this machine alone. Copy it here.")
    one_of_many = not top and "*" not in url and image_names((url,))  # which nobody asks the store about
    for file in [Remote(url)] if one_of_many else files_at(url):
        yield from _pages(file)


def _listed(path: Path) -> Iterator[Picture]:
    with told(DatasetError, f"{path} cannot be read", "Expected a text file with the path of an image in every line."):
        file = path.open(encoding="utf-8")
    with file, told(DatasetError, f"{path} cannot be read", "Write it in UTF-8."):
        named = False
        for line in file:
            if text := line.strip():
                named = True
                yield from _pages(Remote(text) if is_url(text) else path.parent / text)
    if not named:
        raise DatasetError(f"{path} names no image. Expected the path of an image in every line.")


def _pages(path: Path | Remote) -> Iterator[Picture]:
    count = _page_count(path) if path.suffix.lower() in _PAGED else 1
    for page in range(count):
        yield Picture(f"{path}[{page + 1}]" if count > 1 else str(path), path, page)


def _page_count(path: Path | Remote) -> int:
    try:
        with opened(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # which is said when the image is read
        return 1
