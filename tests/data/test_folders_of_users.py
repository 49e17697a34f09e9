"""Folders as users have them: every image has its label, and its mask lies where the image shows the defect."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD
from cops_lightning.data.datamodules import Folder
from cops_lightning.data.dataset import AnomalyDataset
from cops_lightning.data.readers.resolve import load_index

SIDE = 32
Draw = Callable[[Path], object]
Marked = np.ndarray  # of shape (SIDE, SIDE): where the defect is


def marked(number: int) -> Marked:
    """A rectangle that neither a turn nor a reflection maps to itself."""
    place = np.zeros((SIDE, SIDE), bool)
    place[3 + number : 12 + number, 4:16] = True
    return place


def image_of(number: int, anomalous: bool) -> Image.Image:
    """Grey noise, in which the defect, if there is one, is bright."""
    pixels = np.random.default_rng(number).integers(60, 120, (SIDE, SIDE, 3), np.uint8)
    pixels[marked(number) & anomalous] = 250
    return Image.fromarray(pixels)


def grey(place: Marked, value: int = 255) -> Image.Image:
    return Image.fromarray((place * np.uint8(value)).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def tree(
    root: Path,
    mask: Callable[[int], Image.Image] | None = lambda number: grey(marked(number)),
    *,
    image: Callable[[Image.Image], Image.Image] = lambda image: image,
    good: str = "part/test/good/{}.png",
    bad: str = "part/test/crack/{}.png",
    truth: str = "part/ground_truth/crack/{}_mask.png",
) -> None:
    """Two normal and two anomalous images, by default in MVTec AD's layout."""
    for number in range(2):
        save(image(image_of(number, False)), root / good.format(number))
        save(image(image_of(number, True)), root / bad.format(number))
        if mask is not None:
            save(mask(number), root / truth.format(number))


def coloured(place: Marked) -> Image.Image:
    return Image.fromarray(np.where(place[..., None], (255, 0, 0), (0, 0, 0)).astype(np.uint8))


def palette(place: Marked) -> Image.Image:
    image = Image.fromarray(place.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 0, 60, 120])
    return image


def transparent(place: Marked) -> Image.Image:
    return Image.merge("RGBA", [grey(place, 0)] * 3 + [grey(place)])


def upside_down(root: Path) -> None:
    """Photos of a camera held upside down; the masks are drawn on what a viewer shows."""
    tree(root)
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in root.glob("part/test/*/*.png"):
        Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path, exif=exif)


def several_masks_an_image(root: Path) -> None:
    tree(root, truth="part/ground_truth/crack/{}/000.png")
    for number in range(2):
        save(grey(np.zeros_like(marked(0))), root / f"part/ground_truth/crack/{number}/001.png")


def black_masks_of_normal_images(root: Path) -> None:
    tree(root, good="images/a{}.png", bad="images/b{}.png", truth="masks/b{}.png")
    for number in range(2):
        save(grey(np.zeros_like(marked(0))), root / f"masks/a{number}.png")


def splits_of_images_and_masks(root: Path) -> None:
    for split in ("train", "test"):
        black_masks_of_normal_images(root / split)


def parts_with_labels_beside_them(root: Path) -> None:
    tree(root, good="unit0/Part{}.png", bad="unit1/Part{}.png", truth="unit1/Part{}_label.png")
    for number in range(2):
        save(grey(np.zeros_like(marked(0))), root / f"unit0/Part{number}_label.png")


READ: dict[str, Draw] = {
    "masks of 0 and 1": lambda root: tree(root, lambda number: grey(marked(number), 1)),
    "masks of class 3": lambda root: tree(root, lambda number: grey(marked(number), 3)),
    "red masks": lambda root: tree(root, lambda number: coloured(marked(number))),
    "masks with a palette": lambda root: tree(root, lambda number: palette(marked(number))),
    "masks in the alpha channel": lambda root: tree(root, lambda number: transparent(marked(number))),
    "masks of 16 bits up to 255": lambda root: tree(
        root, lambda number: Image.fromarray(marked(number).astype(np.uint16) * 255)
    ),
    "masks of 16 bits up to 65535": lambda root: tree(
        root, lambda number: Image.fromarray(marked(number).astype(np.uint16) * 65535)
    ),
    "images of 12 bits": lambda root: tree(
        root, image=lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 4)
    ),
    "images of 16 bits that need 8": lambda root: tree(
        root, image=lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16))
    ),
    "photos upside down": upside_down,
    "several masks an image": several_masks_an_image,
    "black masks of normal images": black_masks_of_normal_images,
    "splits of images and masks": splits_of_images_and_masks,
    "parts with labels beside them": parts_with_labels_beside_them,
    "a folder called clean": lambda root: tree(root, None, good="part/test/clean/{}.png"),
    "a folder called intact": lambda root: tree(root, None, good="part/test/intact/{}.png"),
    "OK, NG and MASK": lambda root: tree(root, good="OK/{}.png", bad="NG/ng{}.png", truth="MASK/ng{}.png"),
    "folders of VOC": lambda root: [
        tree(root, good="JPEGImages/{}.png", bad="JPEGImages/b{}.png", truth="SegmentationClass/b{}.png"),
        *(save(grey(np.zeros_like(marked(0))), root / f"SegmentationClass/{number}.png") for number in range(2)),
    ],
    "folders called 0 and 1": lambda root: tree(
        root, good="test/0/{}.png", bad="test/1/{}.png", truth="ground_truth/1/{}.png"
    ),
    "masks with numbers of their own": lambda root: tree(
        root, good="normal_dir/image{}.png", bad="abnormal_dir/image7{}.png", truth="mask_dir/mask7{}.png"
    ),
    "a suffix of Windows": lambda root: tree(root, good="part/test/good/{}.jfif"),
    "names that are not UTF-8": lambda root: tree(root, good="part/test/good/gut_{}_\udcfc.png"),
    "long names": lambda root: tree(
        root,
        good="零" * 40 + "/test/good/" + "面" * 60 + "{}.png",
        bad="零" * 40 + "/test/crack/" + "面" * 60 + "{}.png",
        truth="零" * 40 + "/ground_truth/crack/" + "面" * 60 + "{}_mask.png",
    ),
}


@pytest.mark.parametrize("draw", READ.values(), ids=READ)
def test_labels_and_masks_say_where_the_defect_is(tmp_path: Path, draw: Draw):
    draw(tmp_path / "own")
    items = list(AnomalyDataset(load_index(tmp_path / "own"), SIDE))
    assert sorted(item.sample.label for item in items) == [0, 0, 1, 1]
    for item in items:
        assert item.image is not None
        red = item.image[0].numpy() * CLIP_STD[0] + CLIP_MEAN[0]
        assert bool((red > 0.7).any()) == item.sample.anomalous
        if item.mask is not None:
            assert (item.mask.numpy() == (red > 0.7)).all()


def test_masks_alone_are_enough_where_no_image_is_normal(tmp_path: Path):
    save(image_of(0, True), tmp_path / "images/0.png")
    save(grey(marked(0)), tmp_path / "masks/0_Segmentation.png")
    index = load_index(tmp_path)
    assert index.counts()[index.name]["test"] == (0, 1)
    assert index.has_masks


def mixed_masks(root: Path) -> None:
    tree(root, lambda number: grey(marked(number), (1, 255)[number]))


def one_blank_mask(root: Path) -> None:
    tree(root, lambda number: grey(marked(number) & (number > 0)))


def masks_of_one_defect_only(root: Path) -> None:
    tree(root, good="good/{}.png", bad="crack/{}.png", truth="mask/crack/{}.png")
    save(image_of(5, True), root / "colour" / "5.png")


def truth_in_another_format(root: Path) -> None:
    save(image_of(0, True), root / "image" / "0.jpg")
    (root / "groundTruth").mkdir()
    (root / "groundTruth" / "0.mat").write_bytes(b"MATLAB 5.0 MAT-file")


REFUSED: dict[str, tuple[Draw, str]] = {
    "two ways of writing masks": (mixed_masks, "masks are written in different ways: those of 1 images mark by values"),
    "a blank mask": (one_blank_mask, "masks without a marked pixel, of images that are taken for anomalous: 1 of 2,"),
    "images without masks beside others": (
        lambda root: tree(root, good="images/a{}.png", bad="images/b{}.png", truth="masks/b{}.png"),
        "anomalous images without a mask: 2, first images/a0.png. Expected it at",
    ),
    "a defect without masks": (
        masks_of_one_defect_only,
        "anomalous images without a mask: 1, first colour/5.png. Expected it at",
    ),
    "truth in another format": (
        truth_in_another_format,
        "no metric can be computed: none of the 1 test images is known to be normal, and there are no masks. "
        "Files of kinds that are not read: 1 .mat.",
    ),
    "a folder of what nobody labelled": (
        lambda root: tree(root, None, good="part/test/unlabelled/{}.png"),
        "nothing says whether the images in 'unlabelled' are normal or anomalous. Say so by a YAML spec:",
    ),
    "a category called as the mean of all": (
        lambda root: tree(root, None, good="mean/test/good/{}.png", bad="mean/test/crack/{}.png"),
        "has a category called 'mean', as the row is that averages categories. Rename it.",
    ),
}


@pytest.mark.parametrize(("draw", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_known_is_asked_before_training(tmp_path: Path, draw: Draw, sentence: str):
    draw(tmp_path / "own")
    with pytest.raises(DatasetError) as caught:
        Folder(tmp_path / "own", image_size=SIDE).find()
    assert sentence in str(caught.value)


def test_masks_written_in_two_ways_are_read_by_the_setting_that_the_sentence_names(tmp_path: Path):
    mixed_masks(tmp_path)
    data = Folder(tmp_path, image_size=SIDE, mask_threshold="released")
    data.find()
    areas = [item.mask.sum() for item in data.dataset(data.targets[0]) if item.sample.anomalous]  # type: ignore[union-attr]
    assert areas == [marked(0).sum(), marked(1).sum()]


@pytest.mark.parametrize("invert", [True, False])
def test_masks_that_mark_most_of_every_image_are_noted(tmp_path: Path, invert: bool):
    tree(tmp_path, lambda number: grey(marked(number) ^ invert))
    data = Folder(tmp_path)
    data.find()
    assert any("Every mask marks more than half" in note for note in data.targets[0].notes) == invert


@pytest.mark.parametrize(("meaning", "labels"), [("normal", [0, 0, 0, 1]), ("anomalous", [0, 0, 1, 1])])
def test_what_a_blank_mask_means_can_be_said(tmp_path: Path, meaning: str, labels: list[int]):
    one_blank_mask(tmp_path)
    data = Folder(tmp_path, blank_masks=meaning)  # type: ignore[arg-type]
    data.find()
    assert sorted(sample.label for sample in data.targets[0].test) == labels
    assert any(
        note.startswith(f"Blank masks, of images that are taken for {meaning}: 1") for note in data.targets[0].notes
    )


def test_the_released_reading_leaves_photos_as_they_are_stored(tmp_path: Path):
    upside_down(tmp_path)
    viewer, released = (Folder(tmp_path, image_size=SIDE, orientation=name) for name in ("viewer", "released"))  # type: ignore[arg-type]
    images = []
    for data in (viewer, released):
        data.find()
        images.append(data.dataset(data.targets[0])[0].image)
    assert (images[0].flip(1, 2) == images[1]).all()


@pytest.mark.parametrize("value", [-1, 2, None, "yes", 1e400, [], {}])
def test_a_label_that_is_neither_0_nor_1_is_refused(tmp_path: Path, value: object):
    tree(tmp_path, None)
    entry = {"img_path": "part/test/good/0.png", "mask_path": "", "cls_name": "part", "anomaly": value}
    (tmp_path / "meta.json").write_text(json.dumps({"train": {}, "test": {"part": [entry]}}))
    with pytest.raises(DatasetError, match=r"anomaly is .*; expected 0 or 1. Leave out what is not labelled"):
        load_index(tmp_path / "meta.json")
