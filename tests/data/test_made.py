"""`cops-data make`: datasets that are rendered, or that come as a Python package."""

import sys

import cv2
import numpy as np
import pytest

from cops_lightning.cli.data import main
from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.tools.elpv import write_elpv
from cops_lightning.demo.images import example


@pytest.mark.slow
def test_procedural_datasets_read_back_through_the_ordinary_reader(tmp_path, capsys):
    made = tmp_path / "made"
    assert main(["make", "procedural", str(made), "--train=1", "--normal=1", "--anomalous=2"]) == 0
    assert sorted(path.name for path in made.iterdir()) == ["auxiliary", "easy", "hard", "medium"]
    index = load_index(made / "easy")
    assert len(index.train) == 4
    assert [sample.anomalous for sample in index.test].count(True) == 8
    button = next(s for s in index.test if s.category == "button" and not s.anomalous)
    expected = example("button", "normal", 0).image
    assert (cv2.imread(str(button.image))[..., ::-1] == expected).all()
    assert "written" in capsys.readouterr().out


def test_folders_that_are_there_are_kept(tmp_path, capsys):
    arguments = ["make", "procedural", str(tmp_path / "made"), "--train=0", "--normal=1", "--anomalous=1"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("was there already") == 4


def test_a_count_that_is_no_number_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["make", "procedural", str(tmp_path / "made"), "--normal=-3"])
    assert "not a whole number" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is built as elpv-dataset is: labels separated by runs of spaces, images of cells beside them."""
    images = tmp_path / "site" / "elpv_dataset" / "data" / "images"
    images.mkdir(parents=True)
    (images.parents[1] / "__init__.py").touch()
    rows = [("mono", 0.0), ("mono", 1.0), ("poly", 0.0), ("poly", 0.3333333333333333), ("poly", 1.0), ("poly", 1.0)]
    lines = []
    for number, (material, probability) in enumerate(rows, 1):
        cv2.imwrite(str(images / f"cell{number:04}.png"), np.full((6, 6), number, np.uint8))
        lines.append(f"images/cell{number:04}.png  {probability:<20} {material}")
    (images.parent / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    return tmp_path


def test_cells_that_experts_were_sure_of_become_a_dataset_by_material(package):
    assert write_elpv(package / "elpv") == {
        ("mono", "good"): 1,
        ("mono", "defective"): 1,
        ("poly", "good"): 1,
        ("poly", "defective"): 2,
    }
    index = load_index(package / "elpv")
    assert [(s.category, s.anomalous) for s in index.test].count(("poly", True)) == 2
    assert not index.has_masks
    (cell,) = (package / "elpv" / "mono" / "test" / "defective").iterdir()
    assert (cv2.imread(str(cell), cv2.IMREAD_GRAYSCALE) == 2).all()


def test_a_missing_image_leaves_nothing_behind(package):
    (package / "site" / "elpv_dataset" / "data" / "images" / "cell0005.png").unlink()
    with pytest.raises(DatasetError, match="cell0005.png"):
        write_elpv(package / "elpv")
    assert not (package / "elpv").exists()


def test_a_folder_with_content_is_never_written_into(package):
    with pytest.raises(DatasetError, match="not empty"):
        write_elpv(package)


def test_without_the_package_the_way_to_get_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["make", "elpv", str(tmp_path / "elpv")]) == 1
    assert "pip install 'cops_lightning[elpv]'" in capsys.readouterr().err
