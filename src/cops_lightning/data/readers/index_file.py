"""Index files: a dataset written down once, to be loaded without walking its folders.

The first line describes the dataset; every other line is one image, a JSON object whose paths start at the root.
"""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict, NonNegativeInt, ValidationError
from pydantic.dataclasses import dataclass

from cops_lightning.core.errors import DatasetError, quoted
from cops_lightning.core.files import replacing
from cops_lightning.data.readers.images import Orientation
from cops_lightning.data.readers.index import DatasetIndex, make_samples
from cops_lightning.data.readers.listings import HEADER_KEY, load_json, table_rows
from cops_lightning.data.readers.spec import BlankMask, DatasetSpec, Table

FORMAT = 1
LONGEST = 1 << 16  # characters of the first line
_AGAIN = "Write it again with `cops-data index`."


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Header:
    """The first line of an index file. `root` is "." where the file lies in the folder of the dataset.

    `orientation` says whether files were read as a viewer shows them, EXIF applied to image and mask alike.
    """

    name: str
    layout: str
    root: str
    has_masks: bool
    mask_threshold: NonNegativeInt | None
    fingerprint: str
    images: NonNegativeInt
    blank_masks: BlankMask | None = None
    orientation: Orientation = "viewer"


def write_index(index: DatasetIndex, path: Path) -> str:
    """Write a dataset down and return its fingerprint, which is part of the file.

    Raises DatasetError where the file cannot be written.
    """
    samples = index.train + index.test
    inside = path.resolve().parent == index.root.resolve()
    root = "." if inside else str(index.root.resolve())
    header = Header(
        index.name,
        index.layout,
        root,
        index.has_masks,
        index.mask_threshold,
        index.fingerprint(),
        len(samples),
        index.blank_masks,
        index.orientation,
    )
    try:
        with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps({HEADER_KEY: FORMAT} | asdict(header)) + "\n")
            for sample in samples:
                row = {
                    "image": index.relative(sample.image),
                    "mask": None if sample.mask is None else index.relative(sample.mask),
                    "category": sample.category,
                    "split": sample.split,
                    "defect": sample.defect,
                    "label": sample.label,
                }
                file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be written ({error.strerror or error}). Name another place with --out."
        ) from error
    return header.fingerprint


def read_index(path: Path, root: Path | None = None) -> DatasetIndex:
    """The dataset that an index file describes; no folder is walked and no file of it is looked at.

    `root` is where its paths start, by default what the file says. Raises DatasetError where the file is damaged.
    """
    if (header := read_header(path)) is None:
        raise DatasetError(f"{path} is no index file. Write one with `cops-data index NAME ROOT`.")
    base = path.parent / header.root if root is None else root
    rows = table_rows(path, Table(path.name, path.name), DatasetSpec(header.name, ()))
    samples = tuple(make_samples(header.name, base, rows))
    if len(samples) != header.images:
        raise DatasetError(
            f"{path} lists {len(samples)} images, but says it has {header.images}. It is incomplete. {_AGAIN}"
        )
    return DatasetIndex(
        header.name,
        base,
        f"{header.layout}; from {path.name}",
        tuple(sample for sample in samples if sample.split == "train"),
        tuple(sample for sample in samples if sample.split == "test"),
        header.has_masks,
        header.mask_threshold,
        blank_masks=header.blank_masks,
    )


def looks_like_index(start: bytes) -> bool:
    """Whether a file that begins so is an index, whole or damaged."""
    return HEADER_KEY.encode() in start


def read_header(path: Path) -> Header | None:
    """The first line of an index file; None where the file is some other table."""
    try:
        if not path.is_file():
            raise OSError("it is no regular file")
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Expected a readable table in UTF-8.") from error
    if not line.startswith("{") or HEADER_KEY not in line:
        return None
    try:
        values = load_json(line)
        version = values.pop(HEADER_KEY)
        if version == FORMAT:
            return Header(**values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DatasetError(f"{path} has a damaged first line ({reason}). {_AGAIN}") from error
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{path} has a damaged first line ({error}). {_AGAIN}") from error
    raise DatasetError(f"{path} has format {quoted(version)}, but only {FORMAT} is known. {_AGAIN}")
