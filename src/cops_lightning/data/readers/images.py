"""Image files to pixels: decoding, colours, bit depth, and errors that name the file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cops_lightning.core.errors import DatasetError

Pixels = NDArray[np.uint8]
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class ReadingError(DatasetError):
    """A file of a dataset that cannot be used.

    A DataLoader raises an error of a worker process again with a traceback for a message; this one keeps its sentence.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def read_image(path: Path) -> Image.Image:
    """The image in RGB. Alpha is dropped, palettes are looked up, 16-bit values are scaled to 8 bits.

    Raises ReadingError, naming the file and the reason, where it cannot be decoded in full.
    """
    return _to_rgb(_decode(path), path)


def read_mask(path: Path) -> Image.Image:
    """The mask as 8-bit grey values, as stored: the caller decides which of them are anomalous."""
    return _to_grey(_decode(path), path)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header where Pillow can read it."""
    try:
        with Image.open(path) as image:
            return image.size
    except UnidentifiedImageError:
        return _decode(path).size
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError as error:
        if not _is_tiff(path):
            raise _unreadable(path, error) from error
        return _decode_tiff(path)
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error


def _decode_tiff(path: Path) -> Image.Image:
    """A TIFF that Pillow refuses, such as CVC-ClinicDB's: three samples per pixel tagged as greyscale."""
    try:
        pixels = np.asarray(tifffile.imread(path))
    except Exception as error:  # tifffile raises many kinds, struct.error and its own among them
        raise _unreadable(path, error) from error
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ReadingError(
            f"{path} is a TIFF of shape {pixels.shape} and type {pixels.dtype}. "
            "Expected one grey, RGB or RGBA image of 8 or 16 bits; convert the file."
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when it drops a transparent palette entry directly
    return _eight_bit(image, path).convert("RGB")


def _to_grey(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return _eight_bit(image, path).convert("L")


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """Grey values of 16 bits scaled to 8: Pillow's own conversion would clip them at 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ReadingError(
            f"{path} holds {image.mode} values from {values.min()} to {values.max()}. "
            "Expected 8-bit colours or 16-bit grey values; convert the file."
        )
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _unreadable(path: Path, error: Exception) -> ReadingError:
    if not path.exists():
        reason = "it does not exist"
    elif path.stat().st_size == 0:
        reason = "it is empty"
    elif isinstance(error, UnidentifiedImageError):
        reason = "its content is no image of a known format"
    else:
        reason = str(error) or type(error).__name__
    return ReadingError(f"{path} cannot be read: {reason}. Replace the file; an image is never skipped.")
