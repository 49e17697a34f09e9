"""Runs as the page lists them, whatever a folder is called and whatever its files hold."""

import json
import os

import pytest
import torch

from cli.studies import write_run
from cops_lightning.app.demonstration import load_demonstration
from cops_lightning.app.failures import Study
from cops_lightning.cli import app
from cops_lightning.cli.app import AppSettings, judges
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.models.checkpoint import HYPER_PARAMETERS, SAVED, Saved

HEAD = "target,category,defect,image,label,score\n"


def test_runs_of_any_name_are_listed_and_scores_that_are_no_numbers_are_a_sentence(tmp_path):
    for name in (os.fsdecode(b"\xe9"), "\x1b[31mred", "plain"):
        write_run(tmp_path / name, {"tiles": 0.9})
    (tmp_path / "plain" / "scores.csv").write_text(f"{HEAD}tiles,red,hole,tiles/red/0.png,1,nan\n")
    study = Study(tmp_path)
    listed = study.runs()
    json.dumps(listed, allow_nan=False).encode()
    assert sorted(run["name"] for run in listed) == sorted([r"\udce9", r"\x1b[31mred", "plain"])
    for run in listed:
        if run["name"] == "plain":
            with pytest.raises(CopsError, match=r"line 2: score is 'nan', expected a number that is finite"):
                study.run(run["number"])
        else:
            json.dumps(study.run(run["number"]), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("key", ["backbone", "auxiliary"])
def test_what_says_something_of_a_checkpoint_is_refused_without_one(key):
    with pytest.raises(ConfigError, match=f"{key} says of checkpoint= what it is, and none is given"):
        judges(AppSettings(**{key: "visa"}))


def test_detectors_of_one_class_are_told_apart_by_the_variants_that_their_checkpoints_record(tmp_path, monkeypatch):
    detector = load_demonstration()
    monkeypatch.setattr(app, "detector_of", lambda settings: detector)  # the class is CoPS, whatever the variant
    files = []
    for variant in ("cops", "static_prompts", None):
        saved = Saved() if variant is None else Saved(run={"variant": variant})
        files.append(tmp_path / f"{variant}.ckpt")
        torch.save({"state_dict": {}, HYPER_PARAMETERS: {SAVED: saved.as_plain()}}, files[-1])
    pairs = [judges(AppSettings(checkpoint=files[0], second=second)) for second in files[1:]]
    named = [[judge.about()["method"] for judge in pair] for pair in pairs]
    assert named == [["cops", "static_prompts"], ["cops", "CoPS"]]
