"""`cops-calibrate`: what it writes, prints and refuses."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cops_lightning.calibration import Calibration
from cops_lightning.cli import calibrate
from tiny import save_image

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """25 normal images, one of them twice and a file that is none; and 20 with a white block."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(25):
        save_image(RNG.normal(100, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8), folder / "good" / f"{number}.png")
    Image.open(folder / "good" / "3.png").save(folder / "good" / "copy.bmp")
    (folder / "good" / "broken.png").write_bytes(b"no image")
    for number in range(20):
        pixels = RNG.normal(100, 20, (40, 40, 3)).clip(0, 255).astype(np.uint8)
        pixels[10 : 20 + number // 2, 10:30] = 255
        save_image(pixels, folder / "bad" / f"{number}.png")
    return folder


@pytest.fixture
def command(tiny_model, photos, monkeypatch, tmp_path):
    """The command for the tiny detector; gives its exit code."""
    monkeypatch.setattr(calibrate, "detector_of", lambda _settings, **_: tiny_model)
    monkeypatch.chdir(photos)
    return lambda *settings: calibrate.main(
        ["checkpoint=last.ckpt", f"out={tmp_path}/c.json", "batch_size=5", *settings]
    )


def test_the_file_and_its_histogram_are_those_of_the_detector_and_what_is_left_out_is_said(
    command, photos, tiny_model, tmp_path, capsys
):
    assert command("normal=good") == 0
    made = Calibration.read(tmp_path / "c.json")
    assert (made.n, made.repeated) == (25, 1)
    scores = [one.score for one in tiny_model.predict(f"{photos}/good/[0-9]*.png", batch_size=5)]
    assert made.scores == pytest.approx(sorted(scores), abs=1e-6)
    said = capsys.readouterr()
    assert "calibrated with 25 normal images (1 more repeat the pixels of another) for a level of 5 %" in said.out
    assert "3.85 % of normal ones in the mean" in said.out, "1 of 26"
    assert "19 images for 5 %, 99 images for 1 %" in said.out
    assert "Not covered" in said.out
    assert "warning: left out: good/broken.png cannot be read" in said.err
    drawn = (tmp_path / "c.svg").read_text()
    assert drawn.count(f"threshold {made.threshold:.4g}") == 1
    assert "25 normal images" in drawn

    assert command("normal=good", "level=0.01") == 0
    assert "25 normal images are too few for a false-alarm rate of 1 %: it needs 99." in capsys.readouterr().out
    assert Calibration.read(tmp_path / "c.json").threshold is None
    assert "too few for a threshold" in (tmp_path / "c.svg").read_text()


def test_with_anomalous_images_a_threshold_aims_at_what_is_asked(command, tmp_path, capsys):
    settings = ("threshold=recall", "recall=0.9", "miss_cost=20", "anomalous_share=0.01")
    assert command("normal=good", "anomalous=bad", *settings) == 0
    made = Calibration.read(tmp_path / "c.json")
    assert sum(score > made.threshold for score in made.anomalous) == 19, "2 of 21 may be missed, so 1 of 20 is"
    said = capsys.readouterr().out
    assert "For a recall of 90 % (in use): " in said
    assert "recall 95 % (75.1 to 99.9, Clopper-Pearson)" in said
    assert "For the least cost at 1:20: " in said


def test_a_labelled_dataset_gives_both_kinds(command, tiles, tmp_path):
    assert command(f"dataset={tiles}", "level=0.2") == 0
    made = Calibration.read(tmp_path / "c.json")
    assert (made.n, len(made.anomalous)) == (8, 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "Give normal=FOLDER"),
        (["normal=good", "dataset=tiles"], "one of them"),
        (["dataset=tiles", "anomalous=bad"], "Leave out anomalous"),
        (["normal=good", "threshold=f1"], "threshold=f1 needs anomalous images"),
        (["normal=good", "anomalous=good"], "25 of the images are among the normal and among the anomalous"),
        (["normal=nowhere"], "nowhere does not exist"),
        (["normal=good/broken.png"], "There are no normal images"),
        (["normal=good", "level=1"], "level is '1'; expected number"),
        (["normal=good", "level=1e-320"], "level is '1e-320'; expected number at least 1e-09"),
        (
            ["normal=good", "anomalous=bad", "threshold=recall", "recall=1e-300"],
            "recall is '1e-300'; expected number at",
        ),
        (["normal=good", "anomalous=bad", "threshold=recall", "recall=0.9999999999999999"], "recall is '0.99"),
        (["normal=good", "category="], "category is ''; expected text"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence_and_nothing_is_written(command, settings, said, tmp_path, capsys):
    assert command(*settings) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["normal=good", "out=last.ckpt"],
            "out is last.ckpt, which is there and is no calibration. Nothing was written.",
        ),
        (["normal=list.txt", "out=good/0.png"], "out is good/0.png, which is there and is no calibration"),
        (["normal=good", "out=logo.json"], "the histogram beside out is logo.svg, which is there and is no histogram"),
        (["normal=good", "out=folder"], "out is folder, which is there"),
        (["normal=good", "out=good/c.json"], "out is good/c.json, which lies in good, whose images are read"),
        (["normal=*/**/*.png", "out=good/c.json"], "which lies in good, whose images are read"),
        (["normal=bad", "anomalous=good", "out=good/c.json"], "which lies in good, whose images are read"),
        (["dataset=good", "out=good/deep/c.json"], "which lies in good, whose images are read"),
        (["normal=good", "out=run/c.json"], "the folder of a run. Nothing was written."),
    ],
)
def test_nothing_else_is_replaced_and_nothing_is_written_among_what_is_read(
    photos, tmp_path, monkeypatch, capsys, settings, said
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.txt").write_text("good/1.png")
    for name in ("last.ckpt", "logo.svg", "run/run.json"):
        (tmp_path / name).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert calibrate.main(["checkpoint=last.ckpt", *settings]) == 1
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_histogram_that_cannot_be_drawn_costs_no_calibration(command, tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cops_lightning.report.svg.score_histograms", fails)
    assert command("normal=good", "level=0.2") == 0
    assert Calibration.read(tmp_path / "c.json").n == 25
    said = capsys.readouterr()
    assert "c.svg is not drawn (" in said.err
    assert "No space left on device); the calibration is whole." in said.err
    assert "c.svg" not in said.out


def test_the_histogram_does_not_take_the_place_of_the_calibration(photos, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    assert calibrate.main(["checkpoint=last.ckpt", "normal=good", "out=c.svg"]) == 1
    assert "out is c.svg, whose histogram would have the same name" in capsys.readouterr().err
