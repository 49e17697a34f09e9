"""Datasets that a CSV, a JSON-lines file or a meta.json lists."""

import json
from pathlib import Path
from typing import Any

import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.resolve import load_index
from data.conftest import MakeTree, write

PLACES = ["parts/a/0.png", "parts/a/1.png", "masks/1.png"]


@pytest.fixture
def root(make_tree: MakeTree) -> Path:
    return make_tree(*PLACES)


def table(root: Path, text: str, name: str = "parts.csv") -> Path:
    (root / name).write_text(text)
    return root / name


def error_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_index(path)
    return str(caught.value)


def test_a_csv_with_usual_column_names_needs_no_description(root: Path):
    path = table(root, "image,category,split,label,mask\nparts/a/0.png,a,test,0,\nparts/a/1.png,a,test,1,masks/1.png\n")
    index = load_index(path)
    assert (index.name, index.layout, index.has_masks) == ("parts", "table parts.csv", True)
    normal, anomalous = index.test
    assert (normal.anomalous, normal.mask, normal.defect) == (False, None, "good")
    assert (anomalous.anomalous, anomalous.mask, anomalous.category) == (True, root / "masks/1.png", "a")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_use_any_usual_delimiter_and_a_byte_order_mark(root: Path, delimiter: str):
    text = "\ufeff" + "image,label\nparts/a/0.png,normal\nparts/a/1.png,anomaly\n".replace(",", delimiter)
    assert load_index(table(root, text)).counts() == {"parts": {"train": (0, 0), "test": (1, 1)}}


def test_spaces_around_column_names_and_values_do_not_matter(root: Path):
    assert len(load_index(table(root, "image , label\nparts/a/0.png , good\n")).test) == 1


def test_a_json_lines_table_may_leave_the_mask_of_normal_images_out(root: Path):
    rows: list[dict[str, Any]] = [  # as AA-CLIP writes it
        {"image_path": "parts/a/0.png", "label": 0.0, "class_name": "a"},
        {"image_path": "parts/a/1.png", "label": 1.0, "class_name": "a", "mask_path": "masks/1.png"},
    ]
    path = table(root, "".join(json.dumps(row) + "\n" for row in rows), "parts.jsonl")
    index = load_index(path)
    assert index.counts() == {"a": {"train": (0, 0), "test": (1, 1)}}
    assert index.test[1].mask == root / "masks/1.png"


def test_paths_of_a_table_start_at_its_folder_or_at_the_root_given(root: Path, tmp_path: Path):
    path = table(tmp_path, "image,label\nparts/a/0.png,0\n")
    assert load_index(path, root).test[0].image == root / "parts/a/0.png"
    assert "images that do not exist in parts.csv: 1, first parts/a/0.png." in error_of(path)


def test_a_missing_column_is_named_with_the_columns_there_are(root: Path):
    message = error_of(table(root, "picture,label\nparts/a/0.png,0\n"))
    assert "has no column 'image' for the image; it has: 'picture', 'label'." in message
    assert "has no column 'label' for the label" in error_of(table(root, "image,mask\nparts/a/0.png,\n"))


def test_a_missing_column_of_the_visa_split_is_not_replaced_by_a_guess(make_tree: MakeTree):
    root = make_tree("candle/Data/Images/Normal/0000.JPG")
    (root / "split_csv").mkdir()
    table(root, "object,label,image,mask\ncandle,normal,candle/Data/Images/Normal/0000.JPG,\n", "split_csv/1cls.csv")
    with pytest.raises(DatasetError, match="has no column 'split' for the split"):
        load_index("visa", root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,label\nparts/a/0.png,dunno\n", "line 2: the label 'dunno' is not understood."),
        ("image,label,split\nparts/a/0.png,0,val\n", "line 2: the split is 'val', but only train and test are known."),
        ("image,label\nparts/a/0.png,0,1\n", "line 2: 3 values for 2 columns."),
        ("image,label\n,0\n", "line 2: the image path is empty."),
        ("image,image,label\n", "names the column 'image' twice."),
        (
            "image,label\nparts/a/0.png,0\nparts/a/0.png,0\n",
            "images listed before in parts.csv: 1, first parts/a/0.",
        ),
        (
            "image,label,mask\nparts/a/1.png,1,masks/9.png\n",
            "masks that do not exist in parts.csv: 1, first masks/9.",
        ),
        ("image,label\n", "lists no image."),
        ("", "lists no image."),
    ],
)
def test_a_line_that_is_wrong_is_named_with_the_reason(root: Path, text: str, reason: str):
    assert reason in error_of(table(root, text))


def test_an_anomalous_image_may_not_lack_the_mask_that_others_have(root: Path):
    path = table(root, "image,label,mask\nparts/a/0.png,1,\nparts/a/1.png,1,masks/1.png\n")
    assert "anomalous images without a mask in parts.csv: 1, first parts/a/0.png." in error_of(path)


@pytest.mark.parametrize("line", ["[1, 2]", "{oops"])
def test_a_line_that_is_not_a_json_object_is_named(root: Path, line: str):
    assert "line 1 is not" in error_of(table(root, line + "\n", "parts.jsonl"))


def test_a_table_that_is_not_text_is_refused(root: Path):
    (root / "parts.csv").write_bytes(b"image,label\n\xff\xfe\xff,0\n")
    assert "Expected a readable table in UTF-8." in error_of(root / "parts.csv")


def meta(root: Path, prefix: str = "", **more: Any) -> Path:
    """The meta.json of the two images, its paths written with a prefix."""
    normal = {
        "img_path": f"{prefix}parts/a/0.png",
        "mask_path": "",
        "cls_name": "a",
        "specie_name": "good",
        "anomaly": 0,
    }
    anomalous = {"img_path": f"{prefix}parts/a/1.png", "mask_path": f"{prefix}masks/1.png", "cls_name": "a"}
    entries = [normal, anomalous | {"specie_name": "scratch", "anomaly": 1}]
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"a": entries}} | more))
    return root / "meta.json"


@pytest.mark.parametrize("prefix", ["", "data/", "/root/dataset/Parts/", "D:\\sets\\parts\\"])
def test_a_meta_json_is_found_whatever_folder_its_paths_start_from(root: Path, prefix: str):
    index = load_index(meta(root, prefix))
    assert [sample.image for sample in index.test] == [root / "parts/a/0.png", root / "parts/a/1.png"]
    assert index.test[1].mask == root / "masks/1.png"
    assert index.test[1].defect == "scratch"


def test_placeholder_entries_of_a_meta_json_are_left_out_and_noted(root: Path):
    placeholder = {"img_path": "", "mask_path": "", "cls_name": "a", "specie_name": "", "anomaly": 0}
    index = load_index(meta(root, train={"a": [placeholder]}))
    assert index.train == ()
    assert index.notes == ("Entries of meta.json without an image path, left out: 1.",)


def test_masks_of_a_dataset_without_masks_are_not_looked_for(make_tree: MakeTree):
    root = make_tree("brain/test/anomaly/1.bmp", "brain/test/good/0.bmp", root="HeadCT")
    entries = [
        {"img_path": f"HeadCT/brain/test/{kind}.bmp", "mask_path": mask, "cls_name": "head ct", "anomaly": anomaly}
        for kind, mask, anomaly in (("anomaly/1", "HeadCT/brain/ground_truth/1.png", 1), ("good/0", "", 0))
    ]
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": {"head ct": entries}}))
    index = load_index("headct", root / "meta.json")
    assert index.counts() == {"brain": {"train": (0, 0), "test": (1, 1)}}
    assert not index.has_masks


def test_a_meta_json_is_read_where_the_folders_have_no_known_layout(root: Path):
    meta(root)
    index = load_index(root)
    assert (index.layout, len(index.test)) == ("meta.json", 2)


def test_beside_a_known_layout_a_meta_json_is_a_stray_file(make_tree: MakeTree):
    root = make_tree("no/no0.jpg", "yes/y0.jpg", "yes/y1.jpg")
    (root / "meta.json").write_text('{"train": {}, "test": {"brain": []}}')
    assert load_index("br35h", root).layout == "class folders no and yes"


def test_an_absolute_path_elsewhere_is_taken_as_it_is(root: Path, tmp_path: Path):
    write(tmp_path / "elsewhere" / "x.png")
    index = load_index(table(root, f"image,label\nparts/a/0.png,0\n{tmp_path}/elsewhere/x.png,1\n"))
    assert {sample.image for sample in index.test} == {root / "parts/a/0.png", tmp_path / "elsewhere" / "x.png"}


@pytest.mark.parametrize("text", ["[]", "{", '{"val": {}}', '{"test": {"a": [{"img_path": "x"}]}}'])
def test_a_json_that_is_no_meta_json_is_told_what_one_is(root: Path, text: str):
    (root / "meta.json").write_text(text)
    assert 'Expected {"train": {category: [{"img_path"' in error_of(root / "meta.json")
