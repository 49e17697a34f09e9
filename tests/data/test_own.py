"""A dataset of one's own: a folder, or a few lines of YAML."""

from pathlib import Path

import numpy as np
import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.dataset import AnomalyDataset
from cops_lightning.data.readers.resolve import load_index
from data.conftest import MakeTree, write_image


def spec(root: Path, text: str) -> Path:
    (root / "own.yaml").write_text(text)
    return root / "own.yaml"


def error_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_index(path)
    return str(caught.value)


def test_a_folder_of_categories_is_read_as_it_is(make_tree: MakeTree):
    root = make_tree(
        "nut/train/good/0.png",
        "nut/test/ok/1.png",
        "nut/test/bent/2.png",
        "nut/ground_truth/bent/2_mask.png",
        root="my",
    )
    index = load_index(root)
    assert (index.name, index.layout) == ("my", "folders {category}/{split}/{defect}")
    assert index.counts() == {"nut": {"train": (1, 0), "test": (1, 1)}}
    assert index.test[0].mask == root / "nut/ground_truth/bent/2_mask.png"


def test_a_folder_of_one_category_is_called_after_itself(make_tree: MakeTree):
    index = load_index(make_tree("test/good/1.png", "test/bent/2.png", root="nut"))
    assert index.counts() == {"nut": {"train": (0, 0), "test": (1, 1)}}
    assert not index.has_masks


def test_a_folder_of_images_and_masks_holds_anomalous_images_only(make_tree: MakeTree):
    index = load_index(make_tree("images/a.jpg", "masks/a.png"))
    assert index.has_masks
    assert [sample.anomalous for sample in index.test] == [True]


def test_a_folder_of_a_normal_and_an_anomalous_class_is_read(make_tree: MakeTree):
    index = load_index(make_tree("normal/a.jpg", "abnormal/b.jpg"))
    assert index.counts() == {"data": {"train": (0, 0), "test": (1, 1)}}


def test_a_folder_that_says_nothing_asks_for_a_spec(make_tree: MakeTree):
    assert "Describe it by a YAML spec of a few lines;" in error_of(make_tree("a/b/c/x.png"))


def test_magnetic_tiles_are_read_by_a_spec_of_four_lines(real: Path, tmp_path: Path):
    text = f"""
        root: {real / "MagneticTile"}
        images: MT_{{defect}}/Imgs/{{stem}}.jpg
        masks: MT_{{defect}}/Imgs/{{stem}}.png
        normal: Free
    """
    index = load_index(spec(tmp_path, text))
    assert index.counts() == {"own": {"train": (0, 0), "test": (952, 392)}}
    assert index.has_masks


def test_a_spec_reads_split_and_category_from_the_place(make_tree: MakeTree):
    root = make_tree("test-nut/fine_1.png", "test-nut/bent_2.png", "train-nut/fine_3.png")
    index = load_index(spec(root, "images: '{split}-{category}/{defect}_{stem}'\nnormal: fine"))
    assert index.counts() == {"nut": {"train": (1, 0), "test": (1, 1)}}


def test_a_spec_takes_a_word_such_as_no_as_it_is_written(make_tree: MakeTree):
    root = make_tree("no/1.png", "off/2.png")
    index = load_index(spec(root, "images: '{defect}/{stem}'\nnormal: no"))
    assert {sample.defect: sample.anomalous for sample in index.test} == {"good": False, "off": True}


def test_a_spec_can_describe_a_table(make_tree: MakeTree):
    root = make_tree("scans/007.png", "scans/008.png")
    (root / "labels.csv").write_text("id, sick\n7,never\n8,very\n")
    text = "table: labels.csv\ncolumns: {image: 'scans/{id:03d}.png', label: sick}\nnormal: never\ncategory: lung"
    index = load_index(spec(root, text))
    assert index.counts() == {"lung": {"train": (0, 0), "test": (1, 1)}}
    assert index.test[0].image == root / "scans/007.png"


def test_a_spec_can_take_images_without_a_mask_for_normal(make_tree: MakeTree):
    root = make_tree("images/a.png", "images/b.png", "masks/b.png")
    pairs = "images: images/{stem}\nmasks: masks/{stem}\n"
    assert "anomalous images without a mask: 1, first images/a.png." in error_of(spec(root, pairs))
    index = load_index(spec(root, pairs + "unpaired: normal"))
    assert [sample.anomalous for sample in index.test] == [False, True]


def test_masks_that_a_spec_promises_must_be_there(make_tree: MakeTree):
    root = make_tree("bad/a.png")
    assert "without a mask: 1, first bad/a.png" in error_of(spec(root, "images: '{defect}/{stem}'\nmasks: gt/{stem}"))


def test_a_spec_can_set_the_threshold_of_its_masks(make_tree: MakeTree):
    root = make_tree("images/a.png")
    write_image(root / "masks" / "a.png", np.array([[0, 9], [100, 200]], np.uint8).repeat(2, 0).repeat(2, 1))
    index = load_index(spec(root, "images: images/{stem}\nmasks: masks/{stem}\nmask_threshold: 50"))
    mask = AnomalyDataset(index, size=4, mask_threshold="dataset")[0].mask
    assert mask is not None
    assert mask[0].tolist() == [0, 0, 0, 0]
    assert mask[3].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image: x/{stem}", "unknown key 'image'. Did you mean 'images'?"),
        ("name: x", "expected either `images` (a path template) or `table`"),
        ("images: '{stem}'\ntable: x.csv", "expected either `images` (a path template) or `table`"),
        ("images: {a: b}", "`images` must be a text or a list of texts"),
        ("images: [[x]]", "`images` must be a text or a list of texts"),
        ("images: '{colour}/{stem}'", "unknown field {colour}"),
        ("table: x.csv\ncolumns: label", "`columns` must map roles to columns"),
        ("table: x.csv\ncolumns: {lable: sick}", "`columns` has the unknown role 'lable'. Did you mean 'label'?"),
        ("table: x.csv", "x.csv cannot be read"),
        (
            "images: '{stem}'\nmask_threshold: 300",
            "`mask_threshold` is '300', but must be a whole number from 0 to 254.",
        ),
        ("images: '{stem}'\nunpaired: nice", "`unpaired` is 'nice', but only 'normal' is known."),
        ("- images", "must hold keys such as"),
        ("images: [", "is not readable YAML"),
    ],
)
def test_a_spec_that_is_wrong_is_told_why(make_tree: MakeTree, text: str, reason: str):
    assert reason in error_of(spec(make_tree("a.png"), text))


def test_the_nearest_layout_of_a_spec_is_its_own(make_tree: MakeTree):
    root = make_tree("scans/a.png")
    message = error_of(spec(root, "images: pictures/{stem}"))
    assert f"expected a folder 'pictures' in {root}, found scans." in message
