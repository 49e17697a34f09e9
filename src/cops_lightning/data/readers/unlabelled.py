"""Images without labels: a folder of photographs, or a list of files."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import Sample, category_key
from cops_lightning.data.readers.tree import images_below, nearest_existing


def unlabelled(source: str | Path | Sequence[str | Path]) -> Iterator[Sample]:
    """A sample without a label for every image of a folder and its subfolders, or of a list of files."""
    if isinstance(source, str | Path) and not Path(source).is_file():
        root, files = Path(source), images_below(Path(source))
    else:
        files = [Path(file) for file in ([source] if isinstance(source, str | Path) else source)]
        root = Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path()
        if missing := next((file for file in files if not file.is_file()), None):
            raise DatasetError(f"{missing} is no image file. {nearest_existing(missing)}")
        if not files:
            raise DatasetError("The list of images is empty. Expected at least one file.")
    for file in files:
        category = file.absolute().parent.name
        relative = file.absolute().relative_to(root.absolute()).as_posix()
        name = root.absolute().name
        yield Sample(name, category, "test", "", file, None, None, f"{category_key(name, category)}/{relative}")
