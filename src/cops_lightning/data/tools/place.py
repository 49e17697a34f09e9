"""Whether a folder lies in a dataset, to which what is written there would add images."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.spec import HELD_OUT_WORDS, INDEX_NAME, MASK_WORDS, NORMAL_WORDS, SPLIT_WORDS
from cops_lightning.data.readers.tree import image_names

# Names of folders that a dataset has at its top, or a category of one.
_PARTS = NORMAL_WORDS | MASK_WORDS | HELD_OUT_WORDS | SPLIT_WORDS.keys()
_LOOKED_AT = 1000  # entries of a folder


def require_no_dataset(option: str, path: Path) -> None:
    """Raise DatasetError where a folder that is to be written lies in a dataset, as far as names of folders tell.

    Above it, or of an existing one itself, a dataset is a folder with an index, or with images in folders that are
    called as parts of datasets are, such as train, good or masks. Few names are read, however much lies there.
    """
    own, above = path.absolute(), path.absolute().parents
    found = own if _has_image(own) else next((folder for folder in (own, *above) if _is_dataset(folder)), None)
    if found is not None:
        where = "is" if found == own else f"lies in {found},"
        raise DatasetError(
            f"{option} is {path}, which {where} the folder of a dataset, whose images it would add to. Nothing was "
            "written. Name another."
        )


def _is_dataset(folder: Path) -> bool:
    if (folder / INDEX_NAME).is_file():
        return True
    parts = (folder / name for name, is_folder in _entries(folder) if is_folder and name.casefold() in _PARTS)
    return any(_holds_images(part) for part in parts)


def _holds_images(folder: Path) -> bool:
    """Whether there are images in a folder, or in one directly in it."""
    inner = [folder / name for name, is_folder in _entries(folder) if is_folder]
    return any(_has_image(one) for one in (folder, *inner))


def _has_image(folder: Path) -> bool:
    return any(image_names((name,)) for name, is_folder in _entries(folder) if not is_folder)


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """The first names in a folder and whether they are folders; none of one that is not there or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from ((entry.name, entry.is_dir()) for entry in islice(entries, _LOOKED_AT))
    except OSError:
        return
