"""The ELPV solar cells (Buerhop-Lutz et al. 2018), which come as a Python package instead of an archive."""

import csv
import importlib.util
import shutil
from pathlib import Path

from cops_lightning.core.errors import DatasetError, not_installed
from cops_lightning.core.files import new_folder

# Experts judged every cell: 0 is functional, 1 defective, 1/3 and 2/3 say that they were not sure.
FUNCTIONAL, DEFECTIVE = 0.0, 1.0


def write_elpv(destination: Path) -> dict[tuple[str, str], int]:
    """Copy the cells that the experts were sure of into MVTec AD's folders, all or nothing; the count of each folder.

    Categories are the materials, mono and poly; images are in test/good and test/defective, and there are no masks.
    Raises DatasetError if the package `elpv-dataset` is not installed or `destination` is not a new or empty folder.
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise DatasetError(not_installed("cops-data make elpv", "cops_lightning[elpv]"))
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} exists and is not empty. Give a new folder.")
    source = Path(found.submodule_search_locations[0]) / "data"
    try:
        with new_folder(destination) as part:
            return _copy(source, part)
    except OSError as error:
        raise DatasetError(f"The cells cannot be copied from {source} to {destination}: {error}.") from error


def _copy(source: Path, part: Path) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    with (source / "labels.csv").open(encoding="utf-8", newline="") as table:
        for name, probability, material in csv.reader(table, delimiter=" ", skipinitialspace=True):
            state = {FUNCTIONAL: "good", DEFECTIVE: "defective"}.get(float(probability))
            if state is None:
                continue
            target = part / material / "test" / state / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
            counts[material, state] = counts.get((material, state), 0) + 1
    return counts
