"""`check` lists everything that is off, `cops-data` prints it."""

import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cops_lightning.cli.data import main
from cops_lightning.data.catalog import BENCHMARK, CATALOG
from cops_lightning.data.readers.spec import INDEX_NAME, Counts
from cops_lightning.data.tools.check import check
from cops_lightning.data.tools.place import require_no_dataset
from data.conftest import MakeTree, tiny, write_image

Console = pytest.CaptureFixture[str]


@pytest.fixture
def small_btad(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BTAD of two categories of three images, so that a complete one can be planted."""
    counts = {"01": Counts(1, 1, 1), "02": Counts(1, 1, 1)}
    rows = dict(CATALOG) | {"btad": replace(CATALOG["btad"], counts=counts)}
    monkeypatch.setattr("cops_lightning.data.readers.resolve.spec_or_none", rows.get)
    monkeypatch.setattr("cops_lightning.data.tools.check.spec_or_none", rows.get)
    monkeypatch.setattr("cops_lightning.cli.data.find_spec", rows.__getitem__)


PLACES = [
    f"{category}/{place}"
    for category in ("01", "02")
    for place in ("train/ok/0000.bmp", "test/ok/0000.bmp", "test/ko/0000.bmp", "ground_truth/ko/0000.png")
]


@pytest.fixture
def root(make_tree: MakeTree, small_btad: None) -> Path:
    return small_masks(make_tree(*PLACES))


def small_masks(root: Path) -> Path:
    """Mark a quarter of each image, as a mask does: where all of it were marked, that would be noted."""
    for mask in root.glob("*/ground_truth/*/*"):
        write_image(mask, np.diag([255] * 4).astype(np.uint8))
    return root


def test_a_complete_dataset_has_no_problems(root: Path):
    report = check("btad", root, deep=True)
    assert report.problems == ()
    assert report.notes == ()
    assert report.layout == "category folders"
    assert report.fingerprint is not None


def test_a_category_with_other_counts_than_published_is_a_problem(root: Path):
    (root / "01/test/ok/0000.bmp").unlink()
    (root / "02/train/ok/0001.bmp").write_bytes(tiny("bmp"))
    assert check("btad", root).problems == (
        "01, test: normal images found: 0, published: 1.",
        "02, train: normal images found: 2, published: 1.",
    )


def test_missing_categories_are_listed(make_tree: MakeTree, small_btad: None):
    (problem,) = check("btad", make_tree(*PLACES[:4])).problems
    assert problem.startswith("categories missing: 1 of 2, namely 02.")


def test_a_copy_without_training_images_is_noted_since_nothing_needs_them(make_tree: MakeTree, small_btad: None):
    report = check("btad", small_masks(make_tree(*(place for place in PLACES if "train" not in place))))
    assert report.problems == ()
    assert report.notes == (
        "There are no training images. CoPS does not use them: it trains on an auxiliary test split.",
    )


def test_training_counts_that_nobody_confirmed_are_noted(make_tree: MakeTree):
    report = check("mpdd", make_tree("tubes/train/good/0.png", "metal_plate/train/good/0.png", "tubes/test/good/0.png"))
    assert "tubes, train: normal images found: 1, published: 122. That number is not confirmed." in report.notes
    assert "metal_plate, train: normal images found: 1, published: 54." in report.problems


def test_all_problems_are_listed_at_once(root: Path):
    (root / "01/ground_truth/ko/0000.png").unlink()
    (root / "02/test/ko/0000.bmp").unlink()
    (root / "02/test/ok/0000.bmp").write_bytes(b"")
    problems = check("btad", root).problems
    assert [problem.split(",")[0].split(".")[0] for problem in problems] == [
        "anomalous images without a mask: 1",
        "masks without an image: 1",
        "02",
        f"{root / '02/test/ok/0000'}",
    ]


def test_what_cannot_be_decoded_is_found_by_a_deep_check(root: Path):
    (root / "01/test/ok/0000.bmp").write_bytes(tiny("bmp")[:40])
    write_image(root / "02/ground_truth/ko/0000.png", np.full((5, 6), 255, np.uint8))
    found, no_header = check("btad", root).problems
    _, unreadable, other_size = check("btad", root, deep=True).problems
    assert unreadable.startswith(f"{root / '01/test/ok/0000.bmp'} cannot be read: ")
    assert other_size.startswith(f"{root / '02/ground_truth/ko/0000.png'} is 6x5 pixels, but its image")
    assert found.endswith(other_size)
    assert no_header == unreadable


def test_an_image_of_more_pixels_than_are_decoded_is_found_by_its_header(make_tree: MakeTree, monkeypatch):
    root = make_tree("test/good/0.png", "test/bad/1.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 50)  # twice as many are refused
    write_image(root / "test/good/0.png", np.zeros((10, 12, 3), np.uint8))
    (found,) = check(root).problems
    assert found.startswith(f"{root / 'test/good/0.png'} has more than 0 megapixels")


def test_a_blank_mask_of_an_anomalous_image_is_noted(root: Path):
    path = write_image(root / "02/ground_truth/ko/0000.png", np.zeros((4, 4), np.uint8))
    report = check("btad", root)
    assert report.problems == ()
    assert f"Blank masks, of images that are taken for anomalous: 1, first {path}." in report.notes


def test_published_masks_that_mark_by_other_values_are_a_problem(root: Path):
    path = write_image(root / "02/ground_truth/ko/0000.png", np.ones((4, 4), np.uint8))
    (problem,) = check("btad", root).problems
    assert (
        f"masks that mark only by values up to 127, where those above are anomalous: 1 of 2, first {path}." in problem
    )
    assert "data.mask_threshold=released" in problem


def test_a_root_that_is_not_the_dataset_itself_is_a_problem_even_under_a_usual_name(make_tree: MakeTree):
    root = make_tree("bottle/test/good/000.png", root="disk/mvtec")
    (problem,) = check("mvtec", root.parent).problems
    assert f"{root.parent} is one level too high: the root of this dataset is {root}." in problem


def test_the_command_prints_layout_and_counts_and_ends_with_zero(root: Path, capsys: Console):
    assert main(["check", "btad", str(root)]) == 0
    out, err = capsys.readouterr()
    assert "layout: category folders" in out
    assert "btad is as published. Its pixels were not looked at, which --deep does." in out
    assert err == ""


def test_the_command_prints_problems_as_errors_and_ends_with_one(root: Path, capsys: Console):
    (root / "01/test/ok/0000.bmp").unlink()
    assert main(["check", "btad", str(root)]) == 1
    out, err = capsys.readouterr()
    assert "0 of 1" in out
    assert err == "error: 01, test: normal images found: 0, published: 1.\n"


def test_the_json_has_the_agreed_keys(root: Path, capsys: Console):
    assert main(["check", "btad", str(root), "--json", "--deep"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content) == ["dataset", "layout", "fingerprint", "problems", "categories"]
    assert content["problems"] == []
    assert content["categories"]["01"] == {
        "train": {"normal": 1, "anomalous": 0},
        "test": {"normal": 1, "anomalous": 1},
    }


def test_the_json_of_what_was_not_found_has_the_same_keys(tmp_path: Path, capsys: Console):
    assert main(["check", "mvtec", str(tmp_path), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["layout"], content["fingerprint"], content["categories"]) == (None, None, {})
    assert len(content["problems"]) == 1


def test_without_a_root_the_data_root_of_the_environment_is_searched(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch, capsys: Console, small_btad: None
):
    data_root = make_tree(*(f"BTech_Dataset_transformed/{place}" for place in PLACES))
    monkeypatch.setenv("COPS_DATA_ROOT", str(data_root))
    assert main(["check", "btad"]) == 0
    monkeypatch.delenv("COPS_DATA_ROOT")
    assert main(["check", "btad"]) == 1
    assert "error: Where is btad?" in capsys.readouterr().err


def test_a_set_of_ones_own_is_checked_too(make_tree: MakeTree, capsys: Console):
    root = make_tree("test/good/0.png", "test/bad/1.png")
    assert main(["check", str(root)]) == 0
    assert f"{root.name} can be read; nothing is published to compare it with." in capsys.readouterr().out
    assert main(["check", str(root), str(root)]) == 1
    assert "Give the folder alone; only names of the catalogue" in capsys.readouterr().err
    (root / "test/good/0.png").write_bytes(b"")
    assert main(["check", str(root)]) == 1
    assert "0.png is empty." in capsys.readouterr().err


def test_the_list_shows_the_thirteen_with_licence_home_and_counts(capsys: Console):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in BENCHMARK:
        assert name in out
        assert CATALOG[name].url in out
        assert CATALOG[name].licence in out
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == 13
    assert (rows["visa"]["train"], rows["visa"]["normal"], rows["visa"]["anomalous"]) == (8659, 962, 1200)


def test_an_archive_is_unpacked_and_checked(make_tree: MakeTree, tmp_path: Path, capsys: Console, small_btad: None):
    folder = make_tree(*PLACES, root="BTech_Dataset_transformed")
    with zipfile.ZipFile(tmp_path / "btad.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    assert main(["prepare", "btad", str(tmp_path / "btad.zip"), str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert f"8 files unpacked into {tmp_path / 'new'}" in out
    assert "btad is as published. Its pixels were not looked at, which --deep does." in out


def test_the_archive_of_another_dataset_ends_with_one(make_tree: MakeTree, tmp_path: Path, capsys: Console):
    folder = make_tree("a/b/c.png")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(folder, "x")
    assert main(["prepare", "mvtec", str(tmp_path / "x.tar.gz"), str(tmp_path / "new")]) == 1
    assert "has no known layout" in capsys.readouterr().err


def test_an_index_is_written_into_the_dataset_or_where_asked(root: Path, tmp_path: Path, capsys: Console):
    assert main(["index", "btad", str(root)]) == 0
    assert f"6 images of btad (category folders) written to {root / 'cops_index.jsonl'}" in capsys.readouterr().out
    assert main(["index", "btad", str(root), "--out", str(tmp_path / "btad.jsonl")]) == 0
    assert main(["check", "btad", str(tmp_path / "btad.jsonl")]) == 0


def test_an_index_is_written_from_the_folder_and_not_from_the_index_before_it(root: Path, capsys: Console):
    assert main(["index", "btad", str(root)]) == 0
    (root / "01" / "test" / "ok" / "new.bmp").write_bytes((root / "01" / "test" / "ok" / "0000.bmp").read_bytes())
    assert main(["index", "btad", str(root)]) == 0
    assert "new.bmp" in (root / INDEX_NAME).read_text()


def test_what_is_written_replaces_nothing_else_and_lies_in_no_run(root: Path, tmp_path: Path, capsys: Console):
    image = root / "01" / "test" / "ok" / "0000.bmp"
    content = image.read_bytes()
    assert main(["index", "btad", str(root), "--out", str(image)]) == 1
    assert "is no index. Nothing was written." in capsys.readouterr().err
    assert image.read_bytes() == content
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    for command in (["index", "btad", str(root), "--out"], ["make", "procedural"], ["prepare", "btad", "btad.zip"]):
        assert main([*command, str(tmp_path / "run" / "x")]) == 1
        assert "the folder of a run. Nothing was written." in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("images", "destination"),
    [
        (("parts/good/0.png", "parts/crack/0.png"), "parts/new"),
        (("parts/bolt/test/good/0.png", "parts/bolt/test/crack/0.png"), "parts/bolt/new/deep"),
        (("parts/bolt/train/0.png", "parts/bolt/test/crack/0.png"), "parts/bolt"),
        (("photos/0.png",), "photos"),
        (("set/cops_index.jsonl",), "set/a/b"),
    ],
)
def test_nothing_is_made_or_unpacked_in_the_folder_of_a_dataset(images, destination, tmp_path, capsys):
    touch(tmp_path, images)
    for command in (["make", "procedural"], ["make", "elpv"], ["prepare", "btad", "btad.zip"]):
        assert main([*command, str(tmp_path / destination)]) == 1
        assert "the folder of a dataset, whose images it would add to. Nothing" in capsys.readouterr().err
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / image for image in images}


@pytest.mark.parametrize(
    ("images", "destination"),
    [
        (("test/0.png",), "new"),
        (("free/0.png", "label/notes.txt", "other/deep/0.png"), "new"),
        (("TEST/0.png", "test/0.png", "holidays/0.png"), "new/deep"),
        (("home/train/0.png", "home/test/0.png"), "home/new"),
        (("train/0.png", "test/0.png"), "home/new"),
        (("train/0.png", "test/0.png"), "disk/new"),
    ],
)
def test_a_word_that_parts_of_datasets_share_with_other_folders_stops_nothing(
    images, destination, tmp_path, monkeypatch
):
    touch(tmp_path, images)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("cops_lightning.data.tools.place.os.path.ismount", lambda path: path == tmp_path / "disk")
    require_no_dataset("DEST", tmp_path / destination)


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_beside_datasets_images_may_be_made_and_missing_ones_added(tmp_path, capsys):
    for name in ("mvtec/bottle/test/good/0.png", "headct/0.png", "test/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    few = ["--train", "0", "--normal", "1", "--anomalous", "0"]
    for _ in range(2):
        assert main(["make", "procedural", str(tmp_path / "procedural"), *few]) == 0
    assert "was there already" in capsys.readouterr().out


def test_errors_are_one_sentence_without_a_traceback(capsys: Console):
    assert main(["index", "mvtek", "/nowhere"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: 'mvtek' is neither a known dataset nor an existing path. Did you mean 'mvtec'?")
    assert "Traceback" not in err


def test_the_help_teaches_by_examples(capsys: Console):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for example in ("cops-data check mvtec /data/mvtec", "images: MT_{defect}/Imgs/{stem}.jpg", "Exit code: 0"):
        assert example in out


def test_the_help_and_the_list_need_neither_torch_nor_lightning():
    # They take seconds to import; a check should start at once.
    program = (
        "import sys, cops_lightning.cli.data as command\n"
        "command.main(['list'])\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'hydra', 'cv2'} & set(sys.modules), sorted(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "usage: cops-data" in result.stdout
