"""Procedural images on disk, in the folders of MVTec AD, so that the ordinary reader of datasets reads them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.files import new_folder
from cops_lightning.core.progress import counted_progress
from cops_lightning.demo.catalog import CategorySpec, categories
from cops_lightning.demo.images import VERSION, Role, example

MANIFEST = "procedural.json"
FOLDERS = {
    "auxiliary": categories("auxiliary"),
    "easy": categories("test", "easy"),
    "medium": categories("test", "medium"),
    "hard": categories("test", "hard"),
}
DATASETS = {f"procedural_{name}": chosen for name, chosen in FOLDERS.items()}  # under names of their own


def folder_name(name: str) -> str:
    """A category's or defect's name without spaces."""
    return name.replace(" ", "_")


def write_mvtec(
    destination: Path,
    chosen: Iterable[CategorySpec],
    train: int = 20,
    normal: int = 50,
    anomalous: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> None:
    """Write categories to `destination`, all or nothing: it appears when it is complete.

    Per category: train/good, test/good, test/DEFECT and ground_truth/DEFECT with masks of 0 and 255, and at the top a
    manifest that says from which version, seed and counts the images come. Raises DatasetError if the folder exists.
    """
    if destination.exists():
        raise DatasetError(f"{destination} exists already. Give a folder that does not, or remove that one first.")
    chosen = tuple(chosen)
    with new_folder(destination) as part, counted_progress(progress) as bar:
        for spec in bar.track(chosen, description=f"writing {destination.name}"):
            counts: dict[Role, int] = {"train": train, "normal": normal, "anomalous": anomalous}
            _write_category(part / folder_name(spec.name), spec, counts, seed)
        manifest = {
            "generator": "cops_lightning.demo",
            "version": VERSION,
            "seed": seed,
            "per category": {"train": train, "test normal": normal, "test anomalous": anomalous},
            "categories": [spec.name for spec in chosen],
        }
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def write_all(
    destination: Path,
    train: int = 20,
    normal: int = 50,
    anomalous: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Path]:
    """Write the auxiliary categories and the easy, medium and hard test ones, each folder unless it is there.

    Returns the four folders by name.
    """
    paths = {name: destination / name for name in FOLDERS}
    for name, chosen in FOLDERS.items():
        if not paths[name].exists():
            write_mvtec(paths[name], chosen, train, normal, anomalous, seed, progress)
    return paths


def _write_category(folder: Path, spec: CategorySpec, counts: Mapping[Role, int], seed: int) -> None:
    for role, count in counts.items():
        for number in range(count):
            made = example(spec.name, role, number, seed)
            part, defect = "train" if role == "train" else "test", folder_name(made.defect)
            _write(folder / part / defect / f"{number:04}.png", made.image)
            if made.anomalous:
                _write(folder / "ground_truth" / defect / f"{number:04}_mask.png", made.mask.astype(np.uint8) * 255)


def _write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), image[..., ::-1] if image.ndim == 3 else image):
        raise OSError(f"{file} could not be written.")
