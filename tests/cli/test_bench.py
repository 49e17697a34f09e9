"""`cops-bench` from the command line to its JSON; nothing is judged by its time."""

import json
import sys
from unittest.mock import patch

import pytest

from cops_lightning.benchmark.measure import PEAK_SIDE

NAMED = {
    "work", "backbone", "precision", "batch", "ratio", "seconds", "baseline_seconds", "fraction_of_peak",
    "max_abs_difference", "peak_memory_bytes",
}  # fmt: skip
PEERS = ("anomalyclip-train", "anomalyclip-score", "bayes-pfl-train", "bayes-pfl-score")
TINY = ("--backbone", "tiny_random", "--image-size", "48", "--repeats", "1", "--device", "cpu")


@pytest.fixture(autouse=True, scope="module")
def _small_products():
    """The product that a machine's peak is read off takes seconds at its own size."""
    with patch.dict(PEAK_SIDE, cpu=64):
        yield


@pytest.fixture(scope="module")
def everything(run_command, tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    works = ("encode", "prompts", "train-epoch", "evaluate", "metrics", *PEERS)
    result = run_command("cops-bench", *works, *TINY, "--batch", "2", "--json", str(file))
    assert result.returncode == 0, result.stderr
    return result, {row["work"]: row for row in json.loads(file.read_text())}


def test_rows_take_no_place_but_that_of_rows(everything, run_command, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    for place in ("notes.txt", "run/bench.json", "run"):
        result = run_command("cops-bench", "metrics", *TINY, "--json", place, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr.endswith("Nothing was written. Name another.\n"), place
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_every_work_has_a_row_and_training_one_with_and_one_without_stored_features(everything):
    of_cops = ["encode", "prompts", "train-epoch", "train-epoch-cached", "evaluate", "metrics"]
    assert list(everything[1]) == [*of_cops, *PEERS]


def test_rows_hold_what_is_promised_and_what_the_machine_is(everything):
    for row in everything[1].values():
        assert row.keys() >= NAMED | {"device", "torch", "threads", "image_size", "flops", "images_per_second"}
        assert (row["backbone"], row["precision"], row["batch"], row["image_size"]) == ("tiny_random", "fp32", 2, 48)
        assert row["seconds"] > 0
        assert row["ratio"] == pytest.approx(row["baseline_seconds"] / row["seconds"])
        assert row["images_per_second"] == pytest.approx(2 / row["seconds"])


def test_ours_equals_the_baseline_in_every_work(everything):
    bounds = {"encode": 1e-4, "prompts": 1e-5, "metrics": 1e-6}
    for work, row in everything[1].items():
        assert row["max_abs_difference"] <= bounds.get(work, 1e-4), work


def test_short_cuts_save_operations_and_stored_features_the_encoders(everything):
    rows = everything[1]
    for work in ("encode", "prompts", "train-epoch", "evaluate", *PEERS):
        assert rows[work]["flops"] < rows[work]["baseline_flops"]
    assert rows["train-epoch-cached"]["flops"] == rows["train-epoch"]["flops"] - rows["encode"]["flops"]


def test_the_console_shows_one_line_per_work(everything):
    for work in everything[1]:
        assert f"\n{work} " in everything[0].stdout


def test_without_the_baseline_nothing_is_compared(run_command, tmp_path):
    file = tmp_path / "bench.json"
    result = run_command("cops-bench", "encode", *TINY, "--no-baseline", "--precision", "bf16", "--json", str(file))
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(file.read_text())
    assert row["precision"] == "bf16"
    assert row["ratio"] is row["baseline_seconds"] is row["max_abs_difference"] is None
    assert row["peak_memory_bytes"] is None or sys.platform == "linux"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backbone", "vit_x"), "There is no backbone vit_x. Did you mean"),
        (("--device", "cuda:77"), "The device cuda:77 cannot be used here"),
        (("--image-size", "50"), "image_size is 50, which the patch size 16 of packaged:tiny"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(run_command, arguments, said):
    result = run_command("cops-bench", "prompts", *TINY, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_metrics_of_a_single_image_can_be_measured(run_command):
    result = run_command("cops-bench", "metrics", *TINY, "--batch", "1", "--repeats", "1", "--no-baseline")
    assert result.returncode == 0, result.stderr
