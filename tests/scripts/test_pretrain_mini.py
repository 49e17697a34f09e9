"""The script that pre-trains `mini`, run as its docstring says, with steps of two pairs."""

import importlib.util
import json
import sys
import time
from argparse import Namespace
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

SCRIPT = Path(__file__).parents[2] / "scripts" / "pretrain_mini.py"
SMALL = ("--pairs", "2", "--decay-steps", "2", "--threads", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretrain_mini", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def first(tmp_path_factory, run_process) -> Path:
    """The run folder of a first stage of six steps."""
    folder = tmp_path_factory.mktemp("pretraining") / "first"
    assert run_process(SCRIPT, "train", folder, "--steps", 6, *SMALL, cwd=folder.parent).returncode == 0
    return folder


def test_a_run_that_was_killed_goes_on_to_the_weights_of_one_left_alone(first, tmp_path, start_command, run_process):
    words = ("train", tmp_path, "--steps", 6, "--save-every", 1, *SMALL)
    process = start_command(SCRIPT, *words, cwd=tmp_path)
    while process.poll() is None and not (tmp_path / "checkpoint.pt").exists():
        time.sleep(0.005)
    process.kill_all()
    process.communicate()
    assert 1 <= checkpoint(tmp_path)["step"] < 6
    assert run_process(SCRIPT, *words, cwd=tmp_path).returncode == 0
    whole, resumed = checkpoint(first), checkpoint(tmp_path)
    assert whole["step"] == resumed["step"] == 6
    for name, value in whole["clip"].items():
        assert torch.equal(value, resumed["clip"][name]), name


def test_a_second_stage_goes_on_from_an_exported_model_and_remembers_it(script, first, tmp_path, run_process):
    exported, again = tmp_path / "exported", tmp_path / "again"
    script.export(Namespace(run=first, folder=exported))
    second = ("--stage", "objects", "--start", exported, "--seed", 1, "--rate", 0, "--steps", 1)
    result = run_process(SCRIPT, "train", tmp_path / "second", *second, *SMALL, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    script.export(Namespace(run=tmp_path / "second", folder=again))
    earlier, later = (json.loads((folder / "recipe.json").read_text()) for folder in (exported, again))
    assert later["options"]["stage"] == "objects"
    assert later["options"]["start"] == earlier
    # At a rate of 0 nothing moves: the weights are those of the start, read through open_clip.
    old, new = (open_clip.create_model(f"local-dir:{folder}").state_dict() for folder in (exported, again))
    for name, value in old.items():
        assert torch.equal(value, new[name]), name


def test_muon_steps_as_torchs_does_to_the_rounding_of_bfloat16(script):
    """Five iterations in bfloat16 are good to about 1 %; a wrong factor or momentum would differ by far more."""
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((96, 32), (32, 32), (32, 64))]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    mine = script.Muon(ours, lr=0.01, weight_decay=0.05)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b, value in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.05 * (b - value).norm()


def test_windows_grow_until_whole_images_are_seen(script):
    stage = script.STAGES["all"]
    seen = [stage.window(step, 4800) for step in range(4800)]
    assert set(seen[: stage.first_steps]) == {6, 8}
    assert set(seen[stage.first_steps : -stage.last_steps]) == {6, 8, 10}
    assert set(seen[-stage.last_steps :]) == {10, script.GRID}


def test_every_stage_shows_what_only_pre_training_has(script):
    for stage in script.STAGES.values():
        assert {*stage.open, *stage.named} <= set(script.CATEGORIES)
