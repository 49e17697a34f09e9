"""The thirteen datasets of the paper in small: as many images and masks as published, each in a layout of its own.

Files are links to a few tiny images of each dataset, which differ from those of all others.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from cops_lightning.data.catalog import BENCHMARK, CATALOG

SIDE, KINDS = 24, 4  # pixels; different images of a label


def write_standins(root: Path) -> Path:
    """All of them below a folder, each as its publisher packs it. Training images are left out."""
    for seed, name in enumerate(BENCHMARK):
        write_standin(root, name, seed)
    return root


def write_standin(root: Path, name: str, seed: int) -> None:
    """One of them: a folder below `root`."""
    places, link = PLACES[name], Links(root / "originals" / name, seed)
    rows = ["object,split,label,image,mask"]
    for category, counts in CATALOG[name].counts.items():
        for anomalous, count in enumerate((counts.normal, counts.anomalous)):
            for number in range(count):
                image, mask = places(category, bool(anomalous), number)
                link(root / image, bool(anomalous), number)
                if mask:
                    link(root / mask, None, number)
                label = "anomaly" if anomalous else "normal"
                rows.append(",".join((category, "test", label, *(_below(place, 1) for place in (image, mask)))))
    if name == "visa":
        (root / "VisA_20220922" / "split_csv").mkdir()
        (root / "VisA_20220922" / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    if name == "headct":
        lines = [f"{number}, {int(number < 100)}" for number in range(200)]
        (root / "head-ct-hemorrhage" / "labels.csv").write_text("\n".join(["id, hemorrhage", *lines]) + "\n")


class Links:
    """Makes a file a link to one of a few images of a dataset, in the format of its name."""

    def __init__(self, originals: Path, seed: int) -> None:
        self.originals, self.rng = originals, np.random.default_rng(seed)

    def __call__(self, file: Path, anomalous: bool | None, number: int) -> None:
        """`anomalous` is None for a mask."""
        kind = "mask" if anomalous is None else ("normal", "anomalous")[anomalous]
        original = self.originals / f"{kind}{number % KINDS}{file.suffix.lower()}"
        if not original.exists():
            original.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self._pixels(anomalous)).save(original)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(original, file)

    def _pixels(self, anomalous: bool | None) -> np.ndarray:
        square = np.s_[6:15, 9:18]
        if anomalous is None:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[square] = 255
            return mask
        pixels = self.rng.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8)
        if anomalous:
            pixels[square] = 250
        return pixels


Places = Callable[[str, bool, int], tuple[str, str]]


def _below(place: str, levels: int) -> str:
    return "/".join(place.split("/")[levels:])


def _like_mvtec(folder: str, defect: str, category: str, anomalous: bool, number: int) -> tuple[str, str]:
    kind = defect if anomalous else "good"
    mask = f"{folder}/{category}/ground_truth/{kind}/{number:03}_mask.png" if anomalous else ""
    return f"{folder}/{category}/test/{kind}/{number:03}.png", mask


def _visa(category: str, anomalous: bool, number: int) -> tuple[str, str]:
    data = f"VisA_20220922/{category}/Data"
    if anomalous:
        return f"{data}/Images/Anomaly/{number:03}.JPG", f"{data}/Masks/Anomaly/{number:03}.png"
    return f"{data}/Images/Normal/{number:04}.JPG", ""


def _btad(category: str, anomalous: bool, number: int) -> tuple[str, str]:
    image, mask = {"01": ("bmp", "png"), "02": ("png", "png"), "03": ("bmp", "bmp")}[category]
    base, kind = f"BTech_Dataset_transformed/{category}", "ko" if anomalous else "ok"
    truth = f"{base}/ground_truth/ko/{number:04}.{mask}" if anomalous else ""
    return f"{base}/test/{kind}/{number:04}.{image}", truth


def _headct(_category: str, anomalous: bool, number: int) -> tuple[str, str]:
    return f"head-ct-hemorrhage/head_ct/head_ct/{number + 100 * (not anomalous):03}.png", ""


def _no_yes(folder: str, _category: str, anomalous: bool, number: int) -> tuple[str, str]:
    return f"{folder}/yes/Y{number}.jpg" if anomalous else f"{folder}/no/no {number}.jpg", ""


def _isic(_category: str, _anomalous: bool, number: int) -> tuple[str, str]:
    base = "ISIC2016/ISBI2016_ISIC_Part1_Test"
    return f"{base}_Data/ISIC_{number:07}.jpg", f"{base}_GroundTruth/ISIC_{number:07}_Segmentation.png"


def _colondb(_category: str, _anomalous: bool, number: int) -> tuple[str, str]:
    return f"CVC-ColonDB/{number + 1}.tiff", f"CVC-ColonDB/p{number + 1}.tiff"


def _pairs(folder: str, image: str, mask: str, ends: str, _category: str, _anomalous: bool, number: int):
    image_end, mask_end = ends.split()
    return f"{folder}/{image}/{number + 1}.{image_end}", f"{folder}/{mask}/{number + 1}.{mask_end}"


PLACES: dict[str, Places] = {
    "mvtec": partial(_like_mvtec, "mvtec_anomaly_detection", "crack"),
    "visa": _visa,
    "btad": _btad,
    "mpdd": partial(_like_mvtec, "MPDD", "scratches"),
    "dtd_synthetic": partial(_like_mvtec, "DTD-Synthetic", "bad"),
    "headct": _headct,
    "brainmri": partial(_no_yes, "BrainMRI/brain_tumor_dataset"),
    "br35h": partial(_no_yes, "Br35H"),
    "isic": _isic,
    "colondb": _colondb,
    "clinicdb": partial(_pairs, "CVC-ClinicDB", "Original", "Ground Truth", "tif tif"),
    "kvasir": partial(_pairs, "Kvasir-SEG", "images", "masks", "jpg jpg"),
    "endo": partial(_pairs, "EndoTect_2020_Segmentation_Test_Dataset", "images", "masks", "jpg png"),
}
