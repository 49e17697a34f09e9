"""What is wrong with a dataset is said in one sentence: what was found, what was expected, what to do."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.catalog import CATALOG
from cops_lightning.data.dataset import AnomalyDataset, Preprocess
from cops_lightning.data.readers.masks import examined, require_marked
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.readers.spec import Counts
from data.conftest import MakeTree, write, write_image

BOTTLE = [
    "bottle/train/good/000.png",
    "bottle/test/good/000.png",
    "bottle/test/crack/000.png",
    "bottle/test/crack/001.png",
    "bottle/ground_truth/crack/000_mask.png",
    "bottle/ground_truth/crack/001_mask.png",
]


def error_of(source: str | Path, root: Path | None = None) -> str:
    """The message that loading ends with."""
    with pytest.raises(DatasetError) as caught:
        load_index(source, root)
    return str(caught.value)


def error_of_reading(source: str | Path, root: Path | None = None) -> str:
    """The message that reading every image ends with."""
    dataset = AnomalyDataset(load_index(source, root), size=8)
    with pytest.raises(DatasetError) as caught:
        [dataset[i] for i in range(len(dataset))]
    return str(caught.value)


def test_a_misspelt_name_gets_the_nearest_one():
    assert "'mvtek' is neither a known dataset nor an existing path. Did you mean 'mvtec'?" in error_of("mvtek")


def test_a_name_without_a_root_asks_for_one():
    assert error_of("visa").startswith("Where is visa? Give its folder, or one that holds it under a usual name")


def test_a_path_that_does_not_exist_is_named_up_to_where_it_does(make_tree: MakeTree):
    root = make_tree(*BOTTLE)
    assert f"The nearest folder that does is {root}; the folders in it: bottle." in error_of("mvtec", root / "no" / "x")
    assert f"{root / 'no.csv'} does not exist" in error_of(root / "no.csv")


def test_an_empty_folder_has_no_images(tmp_path: Path):
    assert f"{tmp_path} has no image files. Give the folder of the dataset." in error_of("mvtec", tmp_path)


def test_a_folder_without_images_says_what_it_holds(make_tree: MakeTree):
    assert "has no image files; it holds: readme.txt." in error_of(make_tree("readme.txt"))


def test_a_root_one_level_too_low_is_told_the_right_one(make_tree: MakeTree):
    root = make_tree(*BOTTLE)
    expected = f"{root / 'bottle'} is one level too low: the root of this dataset is {root}. Give that folder."
    assert expected in error_of("mvtec", root / "bottle")


def test_a_root_two_levels_too_low_is_told_the_right_one(make_tree: MakeTree):
    root = make_tree(*BOTTLE)
    assert f"is 2 levels too low: the root of this dataset is {root}." in error_of("mvtec", root / "bottle" / "test")


def test_a_root_one_level_too_high_is_told_the_right_one(make_tree: MakeTree):
    root = make_tree(*BOTTLE, root="disk/things")
    expected = f"{root.parent} is one level too high: the root of this dataset is {root}. Give that folder."
    assert expected in error_of("mvtec", root.parent)


@pytest.mark.parametrize("part", ["images", "masks"])
def test_one_half_of_a_dataset_of_pairs_is_told_the_whole(make_tree: MakeTree, part: str):
    root = make_tree("images/1.png", "images/2.png", "masks/1.png", "masks/2.png", root="polyps")
    for name in ("colondb", "kvasir", "endo"):
        assert f"{root / part} is one level too low: the root of this dataset is {root}." in error_of(name, root / part)


def test_one_class_of_a_dataset_of_class_folders_is_told_the_other(make_tree: MakeTree):
    root = make_tree("no/no0.jpg", "yes/y0.jpg", root="scans")
    assert f"is one level too low: the root of this dataset is {root}." in error_of("br35h", root / "yes")


def test_a_root_too_low_is_told_the_right_one_where_a_table_lists_the_images(make_tree: MakeTree):
    root = make_tree(*(f"head_ct/head_ct/{i:03d}.png" for i in range(2)))
    (root / "labels.csv").write_text("id, hemorrhage\n0,1\n1,0\n")
    assert f"too low: the root of this dataset is {root}." in error_of("headct", root / "head_ct")


def test_an_unknown_layout_is_told_the_nearest_one_and_the_first_difference(make_tree: MakeTree):
    root = make_tree("bottle/testing/good/000.png", "bottle/testing/crack/000.png")
    message = error_of("mvtec", root)
    assert "The nearest is 'category folders', {category}/{split:train|test}/{defect}/{stem}" in message
    assert f"expected a folder '{{split:train|test}}' in {root / 'bottle'}, found testing." in message


def test_an_unknown_category_is_told_the_known_ones(make_tree: MakeTree):
    message = error_of("btad", make_tree("04/test/ok/0000.bmp"))
    assert "expected a folder '{category}' (01, 02, 03)" in message
    assert "found 04." in message


def test_visa_without_its_split_file_is_not_guessed_at(make_tree: MakeTree):
    root = make_tree("candle/Data/Images/Normal/0000.JPG", "candle/Data/Images/Anomaly/000.JPG")
    assert "the table 'split_csv/1cls.csv' is missing. Copy it from the archive" in error_of("visa", root)


def test_a_published_dataset_given_by_path_alone_is_told_its_name_if_it_is_whole(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
):
    scan = "head_ct/head_ct/000.png"
    root = make_tree(scan, scan.replace("000", "001"))
    (root / "labels.csv").write_text("id, hemorrhage\n0,1\n1,0\n")
    hint = f"{root} looks like HeadCT. Give the name 'headct' with this folder as root."
    assert hint not in error_of(root)
    whole = replace(CATALOG["headct"], counts={"brain": Counts(0, 1, 1)})
    monkeypatch.setattr("cops_lightning.data.readers.explain.CATALOG", {"headct": whole})
    assert hint in error_of(root)


def test_a_missing_mask_is_named(make_tree: MakeTree):
    root = make_tree(*BOTTLE[:-1])
    message = error_of("mvtec", root)
    assert "anomalous images without a mask: 1, first bottle/test/crack/001.png." in message
    assert "Expected it at '{category}/ground_truth/{defect}/{stem}'" in message


def test_a_mask_without_its_image_is_named_instead_of_shifting_the_others(make_tree: MakeTree):
    root = make_tree(*BOTTLE, "bottle/ground_truth/crack/002_mask.png")
    assert "masks without an image: 1, first bottle/ground_truth/crack/002_mask.png." in error_of("mvtec", root)


def test_two_masks_for_one_image_are_named(make_tree: MakeTree):
    message = error_of("mvtec", make_tree(*BOTTLE, "bottle/ground_truth/crack/001.png"))
    assert "2 masks fit the image bottle/test/crack/001.png:" in message


def test_two_images_of_one_stem_are_named_since_a_mask_fits_both(make_tree: MakeTree):
    message = error_of("mvtec", make_tree(*BOTTLE, "bottle/test/crack/000.jpg"))
    assert "2 images have the same name up to the extension" in message
    assert "bottle/test/crack/000.jpg, bottle/test/crack/000.png" in message


def test_two_normal_images_of_one_stem_would_count_twice(make_tree: MakeTree):
    assert "same name up to the extension" in error_of("mvtec", make_tree(*BOTTLE, "bottle/train/good/000.bmp"))


def test_further_problems_are_counted(make_tree: MakeTree):
    root = make_tree(*BOTTLE[:-1], "bottle/ground_truth/crack/002_mask.png")
    assert "(Further problems: 1; `cops-data check` lists them.)" in error_of("mvtec", root)


def test_a_mask_of_another_size_is_named_with_both_sizes(make_tree: MakeTree):
    root = make_tree(*BOTTLE)
    mask = write_image(root / BOTTLE[-1], np.full((4, 5), 255, np.uint8))
    index = load_index("mvtec", root)
    said = f"{mask} is 5x4 pixels, but its image {root / BOTTLE[3]} is 4x4."
    with pytest.raises(DatasetError, match=re.escape(f"than their image: 1 of 2. {said}")):
        require_marked(index)
    with pytest.raises(DatasetError, match=re.escape(said)):
        [Preprocess(8, has_masks=True)(sample) for sample in index.test]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("orientation", "fits"), [("viewer", "turned"), ("released", "stored")])
def test_the_size_of_a_mask_is_compared_as_the_image_is_read(late, orientation, fits, make_tree: MakeTree):
    """`late`: the PNG says how it is turned after its pixels."""
    root, other = make_tree(*BOTTLE), {"stored": "turned", "turned": "stored"}[fits]
    image, turn = Image.fromarray(np.zeros((4, 6, 3), np.uint8)), Image.Exif()
    turn[0x0112] = 6
    image.save(root / BOTTLE[3], exif=turn)
    if late:
        content = (root / BOTTLE[3]).read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        chunk = content[start:end]
        at = content.index(b"IEND") - 4
        (root / BOTTLE[3]).write_bytes(content[:start] + content[end:at] + chunk + content[at:])
    for shape, is_right in {fits: True, other: False}.items():
        if late and not is_right:
            continue  # found when the image is read
        write_image(root / BOTTLE[-1], np.full({"stored": (4, 6), "turned": (6, 4)}[shape], 255, np.uint8))
        index = replace(load_index("mvtec", root), orientation=orientation)
        assert any("of another size" in problem for problem in examined(index)[1]) != is_right


def test_what_lies_too_deep_is_said(make_tree: MakeTree):
    deep = "/".join("abcdefghijkl")
    said = "more than 10 levels deep was not looked into, first in a/b/c/d/e/f/g/h/i/j."
    assert said in error_of(make_tree(f"{deep}/0.png"))
    assert any(said in note for note in load_index("mvtec", make_tree(*BOTTLE, f"{deep}/0.png")).notes)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_image_is_named_and_not_skipped(make_tree: MakeTree, suffix: str):
    root = make_tree("test/good/0.png")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = write_image(root / "test" / "good" / f"1.{suffix}", pixels)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = error_of_reading(root)
    assert message.startswith(f"{path} cannot be read: ")
    assert message.endswith("Replace the file.")


def test_an_empty_file_is_named(make_tree: MakeTree):
    root = make_tree("test/good/0.png")
    (root / "test/good/1.png").touch()
    assert "1.png cannot be read: it is empty." in error_of_reading(root)


def test_a_file_that_only_ends_like_an_image_is_named(make_tree: MakeTree):
    root = make_tree("test/good/0.png")
    (root / "test/good/1.jpg").write_text("<html>not found</html>")
    assert "1.jpg cannot be read: its content is no image of a known format." in error_of_reading(root)


def test_an_image_that_vanished_is_named(make_tree: MakeTree):
    root = make_tree("test/good/0.png")
    dataset = AnomalyDataset(load_index(root), size=8)
    (root / "test/good/0.png").unlink()
    with pytest.raises(DatasetError, match=r"0\.png cannot be read: it does not exist"):
        dataset[0]


def test_a_folder_that_cannot_be_read_is_named(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch):
    root = make_tree(*BOTTLE)
    scandir = os.scandir

    def refuse(folder: str | Path) -> object:  # permissions would not stop a test that runs as root
        if Path(folder).name == "crack":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    message = error_of("mvtec", root)
    assert "crack cannot be read (Permission denied). Every folder of a dataset must be readable" in message


def test_a_folder_link_that_leads_in_a_circle_ends(make_tree: MakeTree):
    root = make_tree(*BOTTLE)
    (root / "bottle" / "loop").symlink_to(root, target_is_directory=True)
    assert len(load_index("mvtec", root).test) == 3


def test_a_linked_folder_is_followed(make_tree: MakeTree):
    elsewhere = make_tree(*BOTTLE, root="elsewhere")
    (elsewhere.parent / "mvtec").symlink_to(elsewhere, target_is_directory=True)
    assert len(load_index("mvtec", elsewhere.parent / "mvtec").test) == 3


def test_a_file_that_is_no_dataset_is_told_what_is(make_tree: MakeTree):
    root = make_tree("a.txt")
    assert "Expected a folder, or a file that ends in .json, .csv, .jsonl or .yaml." in error_of(root / "a.txt")
    write(root / "b.png")
    assert "is no dataset" in error_of("mvtec", root / "b.png")
