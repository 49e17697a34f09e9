"""Index files: a dataset written down once, then loaded without a look at its folders."""

from pathlib import Path

import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.index_file import read_index, write_index
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.readers.spec import INDEX_NAME
from cops_lightning.data.tools.check import check
from data.conftest import MakeTree

PLACES = [
    "bottle/train/good/000.png",
    "bottle/test/good/000.png",
    "bottle/test/crack/000.png",
    "bottle/ground_truth/crack/000_mask.png",
]


@pytest.fixture
def root(make_tree: MakeTree) -> Path:
    return make_tree(*PLACES)


def test_an_index_in_the_folder_of_a_dataset_spares_the_walk(root: Path, monkeypatch: pytest.MonkeyPatch):
    walked = load_index("mvtec", root)
    write_index(walked, root / INDEX_NAME)
    monkeypatch.setattr("cops_lightning.data.readers.tree.Tree.walk", None)
    loaded = load_index("mvtec", root)
    assert (loaded.train, loaded.test, loaded.has_masks) == (walked.train, walked.test, walked.has_masks)
    assert loaded.fingerprint() == walked.fingerprint()
    assert loaded.layout == "category folders; from cops_index.jsonl"


def test_names_that_are_not_unicode_survive(make_tree: MakeTree):
    root = make_tree("test/good/caf\udce9.png", "test/bad/ünï.png")  # a byte that is no UTF-8, and two that are
    walked = load_index(root)
    write_index(walked, root / INDEX_NAME)
    assert load_index(root).test == walked.test
    assert load_index(root).fingerprint() == walked.fingerprint()


def test_an_index_elsewhere_knows_the_root(root: Path, tmp_path: Path):
    walked = load_index("mvtec", root)
    write_index(walked, tmp_path / "mvtec.jsonl")
    assert load_index(tmp_path / "mvtec.jsonl").test == walked.test
    assert load_index("mvtec", tmp_path / "mvtec.jsonl").test == walked.test


def test_a_dataset_that_moved_with_its_index_is_still_found(root: Path):
    write_index(load_index("mvtec", root), root / INDEX_NAME)
    moved = root.rename(root.with_name("moved"))
    assert all(sample.image.is_file() for sample in load_index("mvtec", moved).test)


def test_a_folder_of_ones_own_is_found_by_its_index_too(make_tree: MakeTree):
    root = make_tree("test/good/1.png", "test/bent/2.png", root="nut")
    write_index(load_index(root), root / INDEX_NAME)
    assert load_index(root).layout == "folders {split}/{defect}; from cops_index.jsonl"


def test_a_check_does_not_use_an_index_and_says_when_it_is_out_of_date(root: Path):
    write_index(load_index("mvtec", root), root / INDEX_NAME)
    assert not any("out of date" in problem for problem in check("mvtec", root).problems)
    (root / "bottle/test/good/001.png").write_bytes((root / "bottle/test/good/000.png").read_bytes())
    report = check("mvtec", root)
    assert report.found["bottle"]["test"] == (2, 1)
    assert any(f"{root / INDEX_NAME} is out of date." in problem for problem in report.problems)


def test_the_index_of_another_dataset_is_refused(root: Path):
    write_index(load_index("mvtec", root), root / INDEX_NAME)
    with pytest.raises(DatasetError, match="is an index of mvtec, not of btad"):
        load_index("btad", root / INDEX_NAME)


def test_a_spec_goes_before_an_index_of_another_description(root: Path, tmp_path: Path):
    write_index(load_index("mvtec", root), root / INDEX_NAME)
    (tmp_path / "own.yaml").write_text(f"root: {root}\nimages: bottle/train/{{defect}}/{{stem}}")
    assert [sample.dataset for sample in load_index(tmp_path / "own.yaml").test] == ["own"]


def test_an_index_that_lost_lines_is_refused(root: Path):
    path = root / INDEX_NAME
    write_index(load_index("mvtec", root), path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DatasetError, match="lists 2 images, but says it has 3. It is incomplete."):
        load_index("mvtec", root)


@pytest.mark.parametrize("first", ['{"cops_index": 9}', '{"cops_index": 1, "name": "x"}', '{"cops_index": 1'])
def test_an_index_of_another_format_is_refused(root: Path, first: str):
    (root / INDEX_NAME).write_text(first + "\n")
    with pytest.raises(DatasetError, match="Write it again with `cops-data index`"):
        load_index("mvtec", root)


def test_an_index_that_cannot_be_written_says_so(root: Path):
    (root / "file").write_text("not a folder")
    with pytest.raises(DatasetError, match=r"cannot be written \(.*\). Name another place"):
        write_index(load_index("mvtec", root), root / "file" / "x.jsonl")


def test_a_table_is_no_index(tmp_path: Path):
    (tmp_path / "x.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(DatasetError, match="is no index file. Write one with `cops-data index NAME ROOT`"):
        read_index(tmp_path / "x.csv")
