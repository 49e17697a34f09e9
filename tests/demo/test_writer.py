"""Procedural images on disk."""

import json

import cv2
import numpy as np
import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.demo import writer as writer_module
from cops_lightning.demo.catalog import CATEGORIES
from cops_lightning.demo.images import VERSION, example
from cops_lightning.demo.writer import write_all, write_mvtec

CHOSEN = (CATEGORIES["gear"], CATEGORIES["brick wall"])


def test_the_folders_are_those_of_mvtec(tmp_path):
    write_mvtec(tmp_path / "made", CHOSEN, train=1, normal=2, anomalous=4, progress=False)
    for category in ("gear", "brick_wall"):
        folder = tmp_path / "made" / category
        assert len(list((folder / "train" / "good").glob("*.png"))) == 1
        assert len(list((folder / "test" / "good").glob("*.png"))) == 2
        defects = [f for f in (folder / "test").glob("*/*.png") if f.parent.name != "good"]
        assert len(defects) == 4
        masks = {f"{f.parent.name}/{f.stem.removesuffix('_mask')}" for f in (folder / "ground_truth").glob("*/*.png")}
        assert masks == {f"{f.parent.name}/{f.stem}" for f in defects}


def test_files_hold_the_very_pixels_of_the_examples(tmp_path):
    write_mvtec(tmp_path / "made", CHOSEN[:1], train=0, normal=1, anomalous=3, seed=5, progress=False)
    for number in range(3):
        made = example("gear", "anomalous", number, seed=5)
        defect = made.defect.replace(" ", "_")
        image = cv2.imread(str(tmp_path / "made" / "gear" / "test" / defect / f"{number:04}.png"))
        mask = cv2.imread(
            str(tmp_path / "made/gear/ground_truth" / defect / f"{number:04}_mask.png"), cv2.IMREAD_GRAYSCALE
        )
        assert (image[..., ::-1] == made.image).all()
        assert (mask == made.mask * 255).all()
        assert set(np.unique(mask)) == {0, 255}


def test_a_manifest_says_where_the_images_come_from(tmp_path):
    write_mvtec(tmp_path / "made", CHOSEN[:1], train=0, normal=1, anomalous=1, seed=5, progress=False)
    manifest = json.loads((tmp_path / "made" / "procedural.json").read_text())
    assert manifest["version"] == VERSION
    assert manifest["seed"] == 5
    assert manifest["categories"] == ["gear"]


def test_an_existing_folder_is_never_written_into(tmp_path):
    with pytest.raises(DatasetError, match="exists already"):
        write_mvtec(tmp_path, CHOSEN, progress=False)


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(writer_module, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mvtec(tmp_path / "made", CHOSEN, progress=False)
    assert not list(tmp_path.iterdir())


def test_all_four_folders_are_written_once(tmp_path):
    paths = write_all(tmp_path, train=0, normal=1, anomalous=1, progress=False)
    assert set(paths) == {"auxiliary", "easy", "medium", "hard"}
    assert all((path / "procedural.json").is_file() for path in paths.values())
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert write_all(tmp_path, train=0, normal=1, anomalous=1, progress=False) == paths
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before
