"""What a folder keeps: nothing finished is removed, a run is known by what it reads, the same command goes on."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import cops_lightning.demo
from cops_lightning.models.checkpoint import read_checkpoint

from .conftest import make_dataset, only_error, training

QUIET = ("callbacks.heat_maps=null", "callbacks.diagnostics=null")


@pytest.fixture
def here(tmp_path) -> Path:
    """A folder with an auxiliary dataset `parts` and a target `tiles`."""
    make_dataset(tmp_path / "parts")
    make_dataset(tmp_path / "tiles", seed=1)
    return tmp_path


@pytest.fixture
def train(here, run_command):
    """`cops-train` there, in seconds."""

    def run(*more: str, **variables: str):
        return run_command("cops-train", *training(here, "targets=[tiles]", *QUIET, *more), cwd=here, **variables)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_finished_run_is_intact_whatever_else_is_asked_of_its_folder(here, train, run_command):
    assert train("hydra.run.dir=run").returncode == 0
    before = contents(here / "run")
    assert {"results.csv", "checkpoints/last.ckpt", ".hydra/overrides.yaml"} <= before.keys()
    assert "'typo' is neither" in only_error(train("hydra.run.dir=run", "seed=1", "targets=[typo]"))
    assert "seed is 'x'" in only_error(train("hydra.run.dir=run", "seed=x"))
    quiet = ("data.num_workers=0", "callbacks.progress=null", "trainer.accelerator=cpu")
    asked = ("checkpoint=run/checkpoints/last.ckpt", "targets=[tiles]", "hydra.run.dir=run", *quiet)
    assert "lies in" in only_error(run_command("cops-eval", *asked, cwd=here))
    assert contents(here / "run") == before
    other = train("hydra.run.dir=run", "seed=1")
    assert other.returncode == 0, other.stderr
    assert f"is kept in {here / 'run' / 'earlier' / '1'}" in other.stdout
    assert contents(here / "run" / "earlier" / "1") == before
    assert json.loads((here / "run" / "run.json").read_text())["seed"] == 1


def test_the_same_command_goes_to_the_same_folder_and_another_seed_to_another(here, train):
    assert [train(*more).returncode for more in ((), ("seed=1",))] == [0, 0]
    again = train()
    assert "Done before" in again.stdout
    folders = sorted(path.parent.name for path in here.glob("runs/default/*/run.json"))
    assert [name.rsplit("-", 1)[0] for name in folders] == [
        f"cops-parts-image_size_64-epochs_1-seed{seed}" for seed in (0, 1)
    ]


def test_an_image_a_mask_or_weights_that_changed_make_another_run(here, train):
    clip = here / "clip"
    shutil.copytree(Path(cops_lightning.demo.__file__).parent / "mini", clip)
    fixed = ("hydra.run.dir=run", "model=clip", f"backbone.name=local-dir:{clip}", "backbone.pretrained=own")

    def key() -> tuple[str, bool]:
        done = train(*fixed)
        assert done.returncode == 0, done.stderr
        return json.loads((here / "run" / "run.json").read_text())["key"], "Done before" in done.stdout

    keys = [key()]
    assert key() == (keys[0][0], True)
    weights = load_file(clip / "open_clip_model.safetensors")
    weights["visual.conv1.weight"] *= 1.3
    save_file(weights, clip / "open_clip_model.safetensors")
    keys.append(key())
    image = here / "tiles" / "part" / "test" / "good" / "000.png"
    stamp, content = image.stat(), image.read_bytes()
    shutil.copy(image.with_name("001.png"), image)
    os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    keys.append(key())
    image.write_bytes(content)
    mask = here / "tiles" / "part" / "ground_truth" / "square" / "000_mask.png"
    mask.write_bytes(mask.with_name("001_mask.png").read_bytes() + b"\0")
    keys.append(key())
    assert len({found for found, _ in keys}) == len(keys)
    assert not any(done for _, done in keys)


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_broken(here, train):
    assert train("hydra.run.dir=run").returncode == 0
    (here / "run" / "results.csv").unlink()
    checkpoint = here / "run" / "checkpoints" / "last.ckpt"
    elsewhere = checkpoint.rename(here / "last.ckpt")
    checkpoint.symlink_to(checkpoint)  # which root cannot read either
    assert "last.ckpt is there, but cannot be read (Too many levels of symbolic links" in only_error(
        train("hydra.run.dir=run")
    )
    assert checkpoint.is_symlink()
    elsewhere.rename(checkpoint)
    assert read_checkpoint(checkpoint).weights
