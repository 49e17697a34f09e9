"""Index files: a dataset written down once, to be loaded without walking its folders.

The first line describes the dataset; every other line is one image, a JSON object whose paths start at the root.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.files import replacing
from cops_lightning.core.types import Sample
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.listings import HEADER_KEY, Row, table_rows
from cops_lightning.data.readers.spec import DatasetSpec, Table

FORMAT = 1
_AGAIN = "Write it again with `cops-data index`."


@dataclass(frozen=True)
class Header:
    """The first line of an index file. `root` is "." where the file lies in the folder of the dataset."""

    name: str
    layout: str
    root: str
    has_masks: bool
    mask_threshold: int
    fingerprint: str
    images: int


def write_index(index: DatasetIndex, path: Path) -> str:
    """Write a dataset down and return its fingerprint, which is part of the file.

    Raises DatasetError where the file cannot be written.
    """
    samples = index.train + index.test
    inside = path.resolve().parent == index.root.resolve()
    root = "." if inside else str(index.root.resolve())
    header = Header(
        index.name, index.layout, root, index.has_masks, index.mask_threshold, index.fingerprint(), len(samples)
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
    samples = tuple(_sample(header.name, base, row) for row in rows)
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
    )


def read_header(path: Path) -> Header | None:
    """The first line of an index file; None where the file is some other table."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Expected a readable table in UTF-8.") from error
    if not line.startswith("{") or HEADER_KEY not in line:
        return None
    try:
        values = json.loads(line)
        version = values.pop(HEADER_KEY)
        if version == FORMAT:
            return Header(**values)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{path} has a damaged first line ({error}). {_AGAIN}") from error
    raise DatasetError(f"{path} has format {version}, but only {FORMAT} is known. {_AGAIN}")


def _sample(name: str, root: Path, row: Row) -> Sample:
    mask = root / row.mask if row.mask and row.anomalous else None
    key = f"{name}/{row.category}/{row.image}"
    return Sample(name, row.category, row.split, row.defect, root / row.image, mask, row.anomalous, key)
