"""Image files to pixels: decoding, colours, bit depth, orientation, and errors that name the file."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from cops_lightning.core.errors import CopsError, DatasetError, reason
from cops_lightning.core.types import Sample
from cops_lightning.data.readers.remote import Remote
from cops_lightning.data.readers.tree import image_names

Pixels = NDArray[np.uint8]
# A camera held sideways says so in EXIF: "viewer" turns image and mask as a viewer does, "released" leaves both as they
# are stored, as the released program does.
Orientation = Literal["viewer", "released"]
MEGAPIXELS = "COPS_MAX_MEGAPIXELS"  # the environment variable that allows larger images
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)
MOST_BYTES = 8  # of a pixel that is read: four values of 16 bits
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOSSY = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP"})
_NEARLY_GREY = 32  # difference of channels: more than JPEG makes of grey
_FEW_COLOURS = 64


class ReadingError(DatasetError):
    """A file of a dataset that cannot be used.

    A DataLoader raises an error of a worker process again with a traceback for a message; this one keeps its sentence.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def read_image(path: Path | Remote, orientation: Orientation = "viewer", page: int = 0) -> Image.Image:
    """The image in RGB. Alpha is dropped, palettes are looked up, values of 16 bits are scaled to 8.

    Of a file of several images it is the one at `page`, counted from 0.

    A file of 16 bits whose values need no more than 8, or 12, is read as one of these. Raises ReadingError, naming the
    file and the reason, where it cannot be decoded in full.
    """
    return _rgb(_decode(path, orientation, page), path)


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """The same of an image in memory, which is turned as a viewer does. Raises ReadingError, naming it."""
    try:
        image.load()
    except _DECODING_ERRORS as error:
        raise ReadingError(f"{name} cannot be read: {reason(error)}. Replace it.") from error
    return _rgb(_turned(image), name)


def _rgb(image: Image.Image, path: Path | Remote | str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when it drops a transparent palette entry directly
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ReadingError(
            f"{path} holds {image.mode} values from {values.min()} to {values.max()}. "
            "Expected 8-bit colours or 16-bit grey values; convert the file."
        )
    return Image.fromarray(_eight_bit(values)).convert("RGB")


def mask_files(mask: Path) -> list[Path]:
    """The files of a mask: the file itself, or those of a folder, each of which marks a part."""
    if image_names((mask.name,)):
        return [mask]
    try:
        return [mask / name for name in sorted(image_names(tuple(os.listdir(mask))))] if mask.is_dir() else [mask]
    except OSError as error:
        raise _unreadable(mask, error) from error


def read_mask(path: Path, orientation: Orientation = "viewer") -> Image.Image:
    """The mask as 8-bit grey values, in which 0 marks nothing: the caller decides which of them are anomalous.

    Grey values are as stored, also those of 0 and 1 or of a few classes; of 16 bits the upper 8 if they are used. In
    one of a few colours all but black, or the commonest where nothing is black, is 255; other colours count by their
    brightest channel. Where the marks are in the alpha channel alone, those are the values. A folder is the union of
    the masks in it.
    """
    parts = [_mask_values(_decode(file, orientation), file) for file in mask_files(path)]
    if len({part.shape for part in parts}) != 1:
        raise ReadingError(
            f"{path} holds {len(parts)} masks of different sizes. Expected one size, or at least a mask."
        )
    return Image.fromarray(np.maximum.reduce(parts))


def mask_summary(path: Path) -> tuple[int, ...]:
    """What a mask's file holds: its largest value, whether it is stored with loss, whether values to 127 count,
    whether more than half of it is marked, and its `stored_size`.

    Values to 127 count where there are only a few values, as classes have, and most marked pixels are not above 127.
    """
    image = _decode(path, "released")
    lossy = image.format in _LOSSY
    counts = np.bincount(_mask_values(image, path).ravel(), minlength=256)
    marked = counts[1:].sum()
    classes = not lossy and np.count_nonzero(counts) <= 8 and counts[1:128].sum() * 2 > marked
    most = counts[128 if lossy else 1 :].sum() * 2 > counts.sum()
    return int(np.flatnonzero(counts)[-1]), lossy, bool(classes), bool(most), *_size(image)


def require_header(path: Path) -> None:
    """Raise ReadingError where a file has no header of an image, or one that says that there are too many pixels."""
    _decode(path, "released", load=False)


def stored_size(path: Path) -> tuple[int, int, bool]:
    """Width and height as the header says, 0 where it does not, and whether a viewer exchanges them."""
    try:
        with Image.open(path) as image:
            return _size(image)
    except Exception:  # which is said when the image is read
        return 0, 0, False


def seen_size(size: Sequence[int], turned: int, orientation: Orientation) -> tuple[int, int]:
    """Width and height as the image is read."""
    width, height = size
    return (height, width) if turned and orientation == "viewer" else (width, height)


def of_another_size(sample: Sample, mask: tuple[int, int], image: tuple[int, int]) -> str:
    """A sentence on a mask that does not fit its image, from width and height of both."""
    return (
        f"{sample.mask} is {mask[0]}x{mask[1]} pixels, but its image {sample.image} is {image[0]}x{image[1]}. A mask "
        "must have the size of its image; restore the original pair."
    )


def _size(image: Image.Image) -> tuple[int, int, bool]:
    return (*image.size, _orientation(image) > 4)


def _mask_values(image: Image.Image, path: Path) -> Pixels:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return _deep_mask(np.asarray(image), path)
    rgba = np.asarray(image.convert("RGBA"))
    colours, alpha = rgba[..., :3], rgba[..., 3]
    if alpha.min() < alpha.max():
        seen = colours[alpha > 0]
        if not seen.any() or (colours == colours[0, 0]).all():
            return np.ascontiguousarray(alpha)
        colours = (colours.astype(np.uint16) * alpha[..., None] // 255).astype(np.uint8)
    if (colours.max(-1) - colours.min(-1)).max() <= _NEARLY_GREY:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    kinds, counts = np.unique(packed, return_counts=True)
    if len(kinds) > _FEW_COLOURS:
        brightest: Pixels = colours.max(-1)
        return brightest
    ground = 0 if kinds[0] == 0 else kinds[counts.argmax()]
    return np.where(packed == ground, 0, 255).astype(np.uint8)


def _deep_mask(values: NDArray[np.generic], path: Path) -> Pixels:
    """Values of more than 8 bits: as they are up to 255, scaled down where they use the upper half of 16 bits."""
    numbers = np.nan_to_num(values.astype(np.float64), nan=-1.0)
    if numbers.min() < 0 or numbers.max() > 65535:
        raise ReadingError(
            f"{path} holds values from {values.min()} to {values.max()}. Expected a mask of values from 0 to 255 or to "
            "65535; convert the file."
        )
    if values.dtype.kind == "f" and numbers.max() <= 1:
        numbers = numbers * 255
    scale = 256 if numbers.max() > 32767 else 1
    return np.minimum(numbers // scale, 255).astype(np.uint8)


def _eight_bit(values: NDArray[np.generic]) -> Pixels:
    """Values of 16 bits scaled to 8; they are of 8 or 12 bits, as many cameras have, where that is enough for them."""
    most = values.max()
    return (values.astype(np.uint16) >> (0 if most <= 255 else 4 if most <= 4095 else 8)).astype(np.uint8)


@contextmanager
def opened(path: Path | Remote) -> Iterator[ImageFile.ImageFile]:
    """A file as Pillow opens it: what its header says, and no pixels yet."""
    with ExitStack() as stack:
        source = path if isinstance(path, Path) else stack.enter_context(path.open())
        yield stack.enter_context(Image.open(source))


def _decode(path: Path | Remote, orientation: Orientation, page: int = 0, load: bool = True) -> Image.Image:
    # A store's package may raise anything.
    failures = _DECODING_ERRORS if isinstance(path, Path) else Exception
    try:
        if isinstance(path, Path) and not path.is_file():
            raise FileNotFoundError("it does not exist" if not path.exists() else "it is no regular file")
        if (allowed := os.environ.get(MEGAPIXELS)) and allowed.isdigit():
            Image.MAX_IMAGE_PIXELS = int(allowed) * 10**6
        with opened(path) as file:
            if page:
                file.seek(page)
            if not load:
                return file
            deep = file.mode.startswith("RGB") and any(";16" in str(tile[3]) for tile in file.tile)
            file.load()
        image: Image.Image = file
    except UnidentifiedImageError as error:
        if not _is_tiff(path):
            raise _unreadable(path, error) from error
        image, deep = _decode_tiff(path), False
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except CopsError:
        raise
    except failures as error:
        raise _unreadable(path, error) from error
    if deep and np.asarray(image)[..., :3].max() < 16:
        image = _low_bits(path) or image
    return _turned(image) if orientation == "viewer" else image


def _turned(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    return turned


def _orientation(image: Image.Image) -> int:
    try:
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))  # that of PNG reads the whole file
    except Exception:  # metadata that is damaged says nothing, and Pillow raises many kinds
        return 1


def _low_bits(path: Path | Remote) -> Image.Image | None:
    """Colours of 16 bits of which Pillow keeps the upper byte, where the lower 12 bits are enough for all."""
    import cv2

    values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    return Image.fromarray(np.ascontiguousarray(_eight_bit(values[..., 2::-1])))


def _decode_tiff(path: Path | Remote) -> Image.Image:
    """A TIFF that Pillow refuses, such as CVC-ClinicDB's: three samples per pixel tagged as greyscale."""
    try:
        with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
            found = tiff.series[0]
            if Image.MAX_IMAGE_PIXELS and found.nbytes > 2 * Image.MAX_IMAGE_PIXELS * MOST_BYTES:
                raise _too_large(path)
            pixels = np.asarray(found.asarray())
    except CopsError:
        raise
    except Exception as error:  # tifffile raises many kinds, struct.error and its own among them
        raise _unreadable(path, error) from error
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.dtype == np.uint16:
        pixels = _eight_bit(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ReadingError(
            f"{path} is a TIFF of shape {pixels.shape} and type {pixels.dtype}. "
            "Expected one grey, RGB or RGBA image of 8 or 16 bits; convert the file."
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _is_tiff(path: Path | Remote) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _too_large(path: Path | Remote) -> ReadingError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    return ReadingError(
        f"{path} has more than {limit} megapixels, which a small file can claim too. If it is meant to be as "
        f"large, allow it: set the environment variable {MEGAPIXELS} to a number of megapixels above its own."
    )


def _unreadable(path: Path | Remote, error: Exception) -> ReadingError:
    if _is_empty(path, error):
        said = "it is empty"
    elif isinstance(error, UnidentifiedImageError):
        said = "its content is no image of a known format"
        if isinstance(path, Remote) and "." not in str(path).rpartition("/")[2]:
            said += " (if it is a folder, end its address with a slash)"
    else:
        said = reason(error)
    return ReadingError(f"{path} cannot be read: {said}. Replace the file.")


def _is_empty(path: Path | Remote, error: Exception) -> bool:
    if isinstance(path, Path):
        return path.is_file() and path.stat().st_size == 0
    if not isinstance(error, UnidentifiedImageError):
        return False
    with path.open() as file:
        return not file.read(1)
