"""cops-predict as a command: killed and taken up, refused in a sentence, and the same digits as cops-eval."""

import csv
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cops_lightning as cl
from cli.conftest import only_error
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: dict) -> Path:
    """CoPS with fresh weights over the tiny CLIP, whose class samples matter."""
    path = tmp_path_factory.mktemp("checkpoint") / "epoch=1.ckpt"
    module = CopsModule(backbone=tiny_backbone)
    with torch.no_grad():
        module.model.classes.vae_decoder.net[2].weight.mul_(1000)
    trainer = quiet_trainer(path.parent)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(root / f"{number:02}.png")
    (root / "07.png").write_bytes(b"broken")
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_command_that_is_killed_goes_on_to_the_files_of_one_that_is_not(
    run_command, start_command, checkpoint, photos, tmp_path
):
    words = [str(photos), f"checkpoint={checkpoint}", "device=cpu", "heatmaps=true", "masks=true", "threshold=0.5"]
    words += ["precision=fp32"]
    whole = run_command("cops-predict", *words, "out=whole", cwd=tmp_path)
    assert whole.returncode == 1, "a file could not be read"
    assert "warning: 1 of 40 could not be read" in whole.stderr
    assert whole.stdout.startswith("39 images scored, ")
    assert whole.stdout.endswith("of them anomalous: whole/predictions.csv\n")
    rows = tmp_path / "killed" / "predictions.jsonl"
    process = start_command("cops-predict", *words, "out=killed", cwd=tmp_path)
    while process.poll() is None and (not rows.exists() or rows.read_bytes().count(b"\n") < 10):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 10 <= rows.read_bytes().count(b"\n") < 40
    assert run_command("cops-predict", *words, "out=killed", cwd=tmp_path).returncode == 1
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    other = run_command("cops-predict", *words, "out=whole", "draws=image", cwd=tmp_path)
    assert "holds predictions with draws 'fixed', now it is 'image'." in only_error(other)


def test_python_and_the_command_say_the_same(run_command, checkpoint, photos, tmp_path):
    found = list(cl.load(checkpoint).outcomes(photos))[:9]
    (tmp_path / "list.txt").write_text("".join(f"{one.picture.path}\n" for one in found))
    run_command("cops-predict", "list.txt", f"checkpoint={checkpoint}", "precision=fp32", "out=out", cwd=tmp_path)
    said = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [row["score"] for row in said] == [getattr(one, "score", None) for one in found]


def test_what_is_found_in_a_whole_folder_is_a_file_that_another_rate_writes_anew(
    run_command, checkpoint, photos, tmp_path
):
    detector = cl.load(checkpoint)
    normal = np.random.default_rng(1).integers(0, 255, (12, 30, 40, 3), dtype=np.uint8)
    cl.Calibration.of(detector.identity(), detector.predict(list(normal))).write(tmp_path / "c.json")
    words = [str(photos), f"checkpoint={checkpoint}", "device=cpu", "calibration=c.json", "regions=false", "out=out"]
    said = run_command("cops-predict", *words, "fdr=0.05", cwd=tmp_path)
    assert "none of the 39 found together at a false-discovery rate of 5 %: out/discoveries.csv" in said.stdout
    assert "no image has a verdict. 12 normal images are too few for a false-alarm rate of 5 %" in said.stderr
    assert "One anomalous image among 39 is found with 779 normal images; 12 calibrated." in said.stdout, "39/0.05 - 1"
    rows = files(tmp_path / "out")["predictions.jsonl"]
    said = run_command("cops-predict", *words, "fdr=0.999", cwd=tmp_path)
    with (tmp_path / "out" / "discoveries.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert f"{len(found)} of the 39 found together at a false-discovery rate of 99.9 %" in said.stdout
    assert len(found) > 0
    assert files(tmp_path / "out")["predictions.jsonl"] == rows
    run_command("cops-predict", *words, cwd=tmp_path)
    assert not (tmp_path / "out" / "discoveries.csv").exists()


def test_another_calibration_is_refused_in_words_before_the_detector_is_read(run_command, checkpoint, photos, tmp_path):
    words = [str(photos / "01.png"), f"checkpoint={checkpoint}", "device=cpu", "out=out"]
    first = run_command("cops-predict", *words, cwd=tmp_path)
    assert "1 of 1 images show no region, as no pixel is above 0.5: map_threshold= sets another" in first.stderr
    detector = cl.load(checkpoint)
    for name, seed in (("a.json", 0), ("b.json", 1)):
        normal = np.random.default_rng(seed).integers(0, 255, (3, 30, 40, 3), dtype=np.uint8)
        cl.Calibration.of(detector.identity(), detector.predict(list(normal))).write(tmp_path / name)
    words[1] = "checkpoint=gone.ckpt"
    said = only_error(run_command("cops-predict", *words, "calibration=a.json", cwd=tmp_path))
    assert "out holds predictions without a calibration, now there is one. Repeat the command" in said
    state = json.loads((tmp_path / "out" / "predict.json").read_text())
    sha = hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()
    (tmp_path / "out" / "predict.json").write_text(json.dumps({**state, "calibration": sha}))
    assert "now there is none" in only_error(run_command("cops-predict", *words, cwd=tmp_path))
    said = only_error(run_command("cops-predict", *words, "calibration=b.json", cwd=tmp_path))
    assert f"a calibration whose SHA-256 begins with {sha[:8]}, now it is another one, " in said
    assert sha[:9] not in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "out=out"], "nowhere does not exist"),
        (["empty", "out=out"], "empty holds no image"),
        (["zip://a.png::http://me:hidden@h/x.zip", "out=out"], "zip://...: the URL holds a password"),
        (["memory://empty/", "out=out"], "memory://empty/ holds no image"),
        (["memry://empty/", "out=out"], "fsspec knows no memry://. Did you mean 'memory'?"),
        (["file://{here}", "out=deep/out"], "out is deep/out, which lies in {here}, whose images are read"),
        (["one.png", "out=out", "checkpoint=one.png"], "one.png"),
        ([".", "out=deep/out"], "out is deep/out, which lies in ., whose images are read"),
        (["**/*.png", "out=deep/out"], "out is deep/out, which lies in ., whose images are read"),
        (["out/masks", "out=out"], "a source is out/masks, which this command writes"),
        (["one.png", "out=one.png"], "one.png: "),
        (["one.png", "out=run/found"], "the folder of a run. Nothing was written."),
        (["one.png", "out=out", "calibration=gone.json"], "gone.json"),
        (["one.png", "out=out", "calibration=gone.json", "threshold=0.5"], "Both calibration and threshold are given"),
        (["one.png", "out=out", "fdr=0.1"], "fdr chooses by p-values, which come from a calibration. Add calibration="),
        (["one.png", "out=out", "fdr=0.1", "threshold=0.5"], "Both fdr and threshold are given, and either decides."),
        (["one.png", "out=out", "fdr=1"], "fdr is '1'; expected number above 0 and below 1"),
        (["one.png", "out=out", "device=abacus"], "The device abacus cannot be used here"),
        (["one.png"], "out has no value, and cops-predict needs it"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(run_command, checkpoint, tmp_path, words, sentence):
    Image.new("RGB", (20, 20)).save(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    if not any(word.startswith("checkpoint=") for word in words):
        words = [*words, f"checkpoint={checkpoint}"]
    words, sentence = [word.format(here=tmp_path) for word in words], sentence.format(here=tmp_path)
    before = files(tmp_path)
    assert sentence in only_error(run_command("cops-predict", *words, cwd=tmp_path))
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_the_scores_are_those_of_cops_eval_to_the_last_digit(run_command, checkpoint, tiles, tmp_path):
    plain = [f"checkpoint='{checkpoint}'", f"targets=[{tiles}]", "data.num_workers=0", "trainer.accelerator=cpu"]
    plain += ["data.eval_batch_size=1", "callbacks.feature_cache=null", "callbacks.progress=null"]
    for draws in ("fixed", "image"):
        options = [*plain, f"model.readings.latents={draws}", f"hydra.run.dir={draws}"]
        evaluated = run_command("cops-eval", *options, cwd=tmp_path)
        assert evaluated.returncode == 0, evaluated.stderr
        words = [str(tiles), f"checkpoint={checkpoint}", "precision=fp32", f"draws={draws}", f"out=predicted_{draws}"]
        run_command("cops-predict", *words, cwd=tmp_path)
        with (tmp_path / draws / "scores.csv").open(newline="") as file:
            expected = {row["image"].split("/", 2)[2]: row["score"] for row in csv.DictReader(file)}
        with (tmp_path / f"predicted_{draws}" / "predictions.csv").open(newline="") as file:
            found = {os.path.relpath(row["name"], tiles): row["score"] for row in csv.DictReader(file)}
        assert len(expected) == 16
        assert {name: found[name] for name in expected} == expected
