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

    Above it, or of an existing one itself, a dataset is a folder with an index, or with images in two folders beside
    each other that are called as parts of datasets are, such as train and test, or good and whatever else; train and
    test may also hold such a pair. One such name alone is a word like others: a folder may well be called test or free.
    Looked at is what lies below the home folder, and else below the root, on one file system. Few names are read,
    however much lies there.
    """
    own = path.absolute()
    found = own if _has_image(own) else next((folder for folder in _looked_at(own) if _is_dataset(folder)), None)
    if found is not None:
        where = "is" if found == own else f"lies in {found},"
        raise DatasetError(
            f"{option} is {path}, which {where} the folder of a dataset, whose images it would add to. Nothing was "
            "written. Name another."
        )


def _looked_at(own: Path) -> Iterator[Path]:
    """A folder and those above it, up to where a file system begins; neither the root nor the home folder."""
    home = Path(os.path.expanduser("~"))  # which is "~" where there is none, and raises nothing
    for folder in (own, *own.parents):
        if folder in (home, Path(folder.anchor)):
            return
        yield folder
        if os.path.ismount(folder):
            return


def _is_dataset(folder: Path) -> bool:
    if (folder / INDEX_NAME).is_file():
        return True
    return _has_parts(folder) or any(_has_parts(part) for part in _folders(folder) if _word(part) in SPLIT_WORDS)


def _has_parts(folder: Path) -> bool:
    """Whether there are images in two folders, of which both are called as parts are, or one as normal images."""
    parts = {_word(part) for part in _folders(folder) if _word(part) in _PARTS and _holds_images(part)}
    if len(parts) != 1 or not parts <= NORMAL_WORDS:
        return len(parts) > 1
    return any(_word(other) not in parts and _has_image(other) for other in _folders(folder))


def _holds_images(folder: Path) -> bool:
    """Whether there are images in a folder, or in one directly in it."""
    return _has_image(folder) or any(map(_has_image, _folders(folder)))


def _has_image(folder: Path) -> bool:
    return any(image_names((name,)) for name, is_folder in _entries(folder) if not is_folder)


def _word(folder: Path) -> str:
    return folder.name.casefold()


def _folders(folder: Path) -> Iterator[Path]:
    return (folder / name for name, is_folder in _entries(folder) if is_folder)


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """The first names in a folder and whether they are folders; none of one that is not there or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from ((entry.name, entry.is_dir()) for entry in islice(entries, _LOOKED_AT))
    except OSError:
        return
