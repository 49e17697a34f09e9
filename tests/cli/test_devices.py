"""Two processes on a CPU leave what one leaves."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cops_lightning.report.tables import read_results

from .conftest import make_dataset, training

TWO = ("trainer.devices=2", "trainer.strategy=ddp")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_command, run_process):
    """Folders of the same training and evaluation, by one process and by two. Batches of 4 leave one image over."""
    here = tmp_path_factory.mktemp("devices")
    make_dataset(here / "parts", 4, 5)
    target = make_dataset(here / "tiles", 4, 3, seed=1)
    for name, more in (("one", ()), ("two", TWO)):
        run = run_process if more else run_command
        result = run(
            "cops-train",
            *training(here, "preset.epochs=2", "preset.recon_weight=1.0", f"targets=[{target}]"),
            "data.batch_size=4",
            "data.eval_batch_size=2",
            "callbacks.heat_maps.count=3",
            f"hydra.run.dir={name}",
            *more,
            cwd=here,
            COPS_CACHE=str(here / f"cache_{name}"),
        )
        assert result.returncode == 0, result.stderr
        (here / name / "printed").write_text(result.stdout)
    return here / "one", here / "two"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_losses_are_those_of_one_process(runs):
    one, two = (rows(run / "metrics.csv") for run in runs)
    kept = [[{k: v for k, v in row.items() if k.endswith("_epoch") and v} for row in found] for found in (one, two)]
    assert [set(row) for row in kept[0]] == [set(row) for row in kept[1]]
    for a, b in zip(*kept, strict=True):
        for name in a:
            assert float(b[name]) == pytest.approx(float(a[name]), rel=2e-5, abs=1e-6), name


@pytest.mark.slow
def test_every_image_is_scored_once_in_the_same_order(runs):
    one, two = (rows(run / "scores.csv") for run in runs)
    assert [row["image"] for row in two] == [row["image"] for row in one]
    scores = [[float(row["score"]) for row in found] for found in (one, two)]
    np.testing.assert_allclose(scores[1], scores[0], atol=2e-5)


@pytest.mark.slow
def test_results_and_pictures_are_those_of_one_process(runs):
    one, two = (read_results(run / "results.csv") for run in runs)
    assert [row.run for row in one] == [row.run for row in two]
    for a, b in zip(one, two, strict=True):
        assert b.measured.value == pytest.approx(a.measured.value, abs=1e-3)
    pictures = [sorted(p.relative_to(run) for p in (run / "heatmaps").rglob("*.png")) for run in runs]
    assert pictures[0] == pictures[1]
    for name in pictures[0]:
        a, b = (np.asarray(Image.open(run / name), dtype=int) for run in runs)
        assert np.abs(a - b).max() <= 3, name


@pytest.mark.slow
def test_only_the_first_process_prints_and_the_encoder_sees_each_image_once(runs):
    printed = [(run / "printed").read_text().replace(run.name, "") for run in runs]
    assert printed[1].count("auxiliary parts: 9 images") == printed[0].count("auxiliary parts: 9 images") == 1
    records = [json.loads((run / "run.json").read_text()) for run in runs]
    assert [r["image_encoder"] for r in records] == 2 * [{"images_encoded": 16, "images_from_cache": 0}]
    assert [r["status"] for r in records] == ["done", "done"]
    assert records[0]["run_id"] == records[1]["run_id"]


@pytest.mark.slow
def test_weights_are_those_of_one_process_to_what_adam_makes_of_rounding(runs):
    one, two = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in runs)
    for name in one:
        # A step of Adam is about the learning rate, 1e-3, however small the gradient: where that is rounding alone, six
        # steps may differ by as much as they are long.
        assert (one[name] - two[name]).abs().max() <= 2e-3, name


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_sigterm_to_the_second_of_two_processes_reaches_the_first_and_ends_both(tmp_path, start_command):
    """Which it does by a signal to the first: what happens where that alone gets one is shown too."""
    target, last = make_dataset(tmp_path / "tiles", seed=1), tmp_path / "run" / "checkpoints" / "last.ckpt"
    make_dataset(tmp_path / "parts")
    command = training(tmp_path, "preset.epochs=5000", f"targets=[{target}]", "hydra.run.dir=run", *TWO)
    first = start_command("cops-train", *command, cwd=tmp_path, COPS_CACHE=str(tmp_path / "cache"))
    while not last.exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    (second,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(second), signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1].startswith("Interrupted. The same command goes on from the last epoch in"), said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    end = time.monotonic() + 20
    while is_alive(second):
        assert time.monotonic() < end, "the second process is left"
        time.sleep(0.1)


def test_multiruns_of_several_processes_are_refused(trained, run_command, tmp_path):
    many = run_command("cops-train", "-m", *trained["arguments"], "trainer.devices=2", "seed=0,1", cwd=tmp_path)
    assert many.returncode == 1
    assert "trainer.devices is 2 in a multirun" in many.stderr
