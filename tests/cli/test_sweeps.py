"""Sweeps as a user runs them: what is done is skipped, what stopped goes on, what failed is counted."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hydra.core.plugins import Plugins

from commands import Started
from cops_lightning.report.tables import read_results

from .conftest import make_dataset, only_error, training

pytestmark = pytest.mark.slow
QUIET = ("callbacks.heat_maps=null", "callbacks.diagnostics=null")
EPOCHS = 6  # of a sweep that is stopped


def arguments(here: Path, *more: str) -> list[str]:
    """A small job over the datasets that lie in `here`."""
    return [*training(here), *QUIET, *more]


def make_both(here: Path) -> Path:
    make_dataset(here / "parts")
    make_dataset(here / "tiles", seed=1)
    return here


def records(here: Path) -> dict[str, dict]:
    """run.json of every job of the default study, by folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in here.glob("runs/default/*/run.json")}


def counts(printed: str) -> dict[str, int]:
    """The closing summary of a sweep."""
    outcomes = ("done", "skipped", "elsewhere", "not", "failed", "lost")
    words = [line.split() for line in printed.splitlines()]
    return {line[1]: int(line[0]) for line in words if len(line) > 1 and line[0].isdigit() and line[1] in outcomes}


@pytest.fixture(scope="module")
def swept(tmp_path_factory, run_command) -> dict:
    """A sweep over a target that is missing and one that is there."""
    here = make_both(tmp_path_factory.mktemp("swept"))
    command = arguments(here, f"targets={here / 'missing'},{here / 'tiles'}")
    return {"here": here, "command": command, "result": run_command("cops-train", "-m", *command, cwd=here)}


def test_a_failed_job_is_counted_and_the_sweep_goes_on(swept):
    assert counts(swept["result"].stdout) == {"done": 1, "skipped": 0, "failed": 1}
    assert swept["result"].returncode == 1
    assert "2 of 2 jobs ended." in swept["result"].stdout
    assert sorted(record["status"] for record in records(swept["here"]).values()) == ["done", "failed"]


def test_the_summary_says_where_the_traceback_is_and_the_error_is_one_sentence(swept):
    (left,) = swept["here"].glob("runs/default/*/traceback.txt")
    assert f"failed: {left}: " in swept["result"].stdout
    assert "missing does not exist" in swept["result"].stderr
    assert "Traceback" not in swept["result"].stderr
    assert "DatasetError" in left.read_text()


def test_a_rerun_skips_what_is_done_and_fail_fast_stops_at_the_failure(swept, run_command):
    here, command = swept["here"], swept["command"]
    before = {path: path.read_bytes() for path in here.glob("runs/default/*/results.csv")}
    (done,) = before
    again = run_command("cops-train", "-m", *command, cwd=here)
    assert counts(again.stdout) == {"done": 0, "skipped": 1, "failed": 1}
    # Whatever happened to the results, they are not those that the entry vouches for.
    done.write_bytes(before[done][:100])
    stopped = run_command("cops-train", "-m", *command, "fail_fast=true", cwd=here)
    assert counts(stopped.stdout) == {"done": 0, "skipped": 0, "not": 1, "failed": 1}
    assert stopped.returncode == 1
    # The command that failed succeeds once its dataset is there; the broken results are made anew, from the last epoch.
    make_dataset(here / "missing", seed=2)
    mended = run_command("cops-train", "-m", *command, cwd=here)
    assert mended.returncode == 0
    assert counts(mended.stdout) == {"done": 2, "skipped": 0, "failed": 0}
    assert "see below" not in mended.stdout
    assert done.read_bytes() == before[done]
    assert not list(here.glob("runs/default/*/traceback.txt"))


def stop_when(process: Started, reached: Callable[[], bool], number: signal.Signals) -> str:
    """Send the signal as soon as a moment is reached; returns what the process said on stderr."""
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=240)[1]


@pytest.fixture(scope="module")
def stopped_and_rerun(tmp_path_factory, run_command, start_command) -> dict:
    """A sweep of two seeds stopped at four moments, each time rerun, and the same sweep left alone."""
    here = tmp_path_factory.mktemp("stopped")
    make_dataset(here / "parts")
    make_dataset(here / "tiles", normal=15, anomalous=15, seed=1)
    long = (f"preset.epochs={EPOCHS}", "data.eval_batch_size=1", f"targets={here / 'tiles'}", "seed=0,1")
    command = ["-m", *arguments(here, *long)]
    seen = {"here": here, "rc": [], "epochs": []}

    def folder(seed: int) -> Path:
        return next(here.glob(f"runs/default/cops-parts-*-seed{seed}-*"), Path("nowhere"))

    def trained_epochs(seed: int) -> int:
        return torch.load(folder(seed) / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 1

    def at_work(seed: int, name: str) -> bool:
        return (folder(seed) / "checkpoints" / name).exists()

    def status(seed: int) -> str | None:
        entry = folder(seed) / "run.json"
        return json.loads(entry.read_text())["status"] if entry.exists() else None

    moments = [
        ("during an epoch", 0, lambda: at_work(0, "last.ckpt"), signal.SIGKILL),
        ("during evaluation", 0, lambda: at_work(0, "released.pth"), signal.SIGKILL),
        ("between jobs", 1, lambda: status(0) == "done", signal.SIGKILL),
        ("during an epoch", 1, lambda: at_work(1, "last.ckpt"), signal.SIGTERM),
    ]
    for name, seed, reached, number in moments:
        process = start_command("cops-train", *command, cwd=here, COPS_CACHE=str(here / "cache"))
        said = stop_when(process, reached, number)
        epochs = trained_epochs(seed) if at_work(seed, "last.ckpt") else 0
        seen[name, seed] = {"rc": process.returncode, "status": status(seed), "epochs": epochs, "stderr": said}
    seen["last"] = run_command("cops-train", *command, cwd=here, COPS_CACHE=str(here / "cache"))
    assert seen["last"].returncode == 0, seen["last"].stderr
    # Features of its own: an encoder rounds an image by what else is in its batch.
    own = str(here / "cache_alone")
    alone = run_command("cops-train", *command, "hydra.sweep.dir=alone", cwd=here, COPS_CACHE=own)
    assert alone.returncode == 0, alone.stderr
    return seen


def test_a_killed_run_counts_as_running_and_goes_on_from_its_last_epoch(stopped_and_rerun):
    first, second = stopped_and_rerun["during an epoch", 0], stopped_and_rerun["during evaluation", 0]
    assert first["rc"] == second["rc"] == -signal.SIGKILL
    assert first["status"] == second["status"] == "running"
    assert 0 < first["epochs"] < EPOCHS == second["epochs"]
    # Killed in training, killed in evaluation, then done.
    (record,) = (r for name, r in records(stopped_and_rerun["here"]).items() if "seed0" in name)
    assert (record["status"], record["attempts"]) == ("done", 3)


def test_sigterm_closes_the_record_and_says_how_to_go_on(stopped_and_rerun):
    ended = stopped_and_rerun["during an epoch", 1]
    assert (ended["rc"], ended["status"]) == (143, "interrupted")
    assert "The same command goes on from the last epoch" in ended["stderr"]
    assert "Traceback" not in ended["stderr"]
    assert "Going on from" in stopped_and_rerun["last"].stdout


def test_a_sweep_stopped_at_any_moment_and_rerun_ends_with_the_bytes_of_one_left_alone(stopped_and_rerun):
    here = stopped_and_rerun["here"]
    assert counts(stopped_and_rerun["last"].stdout) == {"done": 1, "skipped": 1, "failed": 0}
    for name in ("results.csv", "scores.csv"):
        rerun = {path.parent.name: path.read_bytes() for path in here.glob(f"runs/default/*/{name}")}
        alone = {path.parent.name: path.read_bytes() for path in here.glob(f"alone/*/{name}")}
        assert len(alone) == 2
        assert rerun == alone


def test_two_sweeps_at_once_never_do_the_same_job_twice(tmp_path, start_command):
    here = make_both(tmp_path)
    command = ["-m", *arguments(here, f"targets={here / 'tiles'}", "seed=0,1")]
    both = [start_command("cops-train", *command, cwd=here) for _ in range(2)]
    printed = [process.communicate(timeout=280) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sum(counts(out)["done"] for out, _ in printed) == 2
    assert [(r["status"], r["attempts"]) for r in records(here).values()] == [("done", 1), ("done", 1)]


def test_a_single_run_into_the_folder_of_a_finished_one_is_skipped_if_it_is_the_same_run(trained, run_command):
    result = run_command("cops-train", *trained["arguments"], "hydra.run.dir=run", cwd=trained["here"])
    assert result.returncode == 0, result.stderr
    assert "Done before" in result.stdout


def test_the_objective_of_a_sweeper_must_be_something_that_was_measured(trained, run_command):
    asked = ("objective=tiles/image_auc", "hydra.run.dir=run")
    said = only_error(run_command("cops-train", *trained["arguments"], *asked, cwd=trained["here"]))
    assert "objective is 'tiles/image_auc', which this run did not measure. It measured tiles/image_" in said


def test_a_sweep_over_checkpoints_takes_seed_and_variant_from_each(swept_seeds, run_command):
    here, checkpoints = swept_seeds
    listed = ",".join(map(str, checkpoints))
    quiet = ("data.num_workers=0", "callbacks.progress=null", "callbacks.heat_maps=null", "trainer.accelerator=cpu")
    result = run_command(
        "cops-eval", "-m", f"checkpoint={listed}", f"targets={here / 'tiles'}", "study=again", *quiet, cwd=here
    )
    assert counts(result.stdout) == {"done": 2, "skipped": 0, "failed": 0}, result.stderr
    runs = {row.run for path in here.glob("runs/again/*/results.csv") for row in read_results(path)}
    assert {(run.seed, run.variant) for run in runs} == {(0, "without_states"), (1, "without_states")}
    assert len({run.method for run in runs}) == 1
    trained = {row.run for path in here.glob("runs/default/*/results.csv") for row in read_results(path)}
    assert {run.method for run in trained} == {run.method for run in runs}
    assert {path.parent.name.rsplit("-", 1)[0] for path in here.glob("runs/again/*/results.csv")} == {
        "without_states-seed0",
        "without_states-seed1",
    }


@pytest.fixture(scope="module")
def swept_seeds(tmp_path_factory, run_command):
    """Where two seeds were trained without states, and their checkpoints."""
    here = make_both(tmp_path_factory.mktemp("seeds"))
    command = arguments(here, f"targets={here / 'tiles'}", "ablation=without_states", "seed=0,1")
    result = run_command("cops-train", "-m", *command, cwd=here)
    assert result.returncode == 0, result.stderr
    return here, sorted(here.glob("runs/default/*/checkpoints/last.ckpt"))


def test_a_launcher_that_fails_as_when_a_worker_is_killed_leaves_the_count_of_its_jobs(
    tmp_path, run_command, monkeypatch
):
    launcher = Mock(**{"launch.side_effect": RuntimeError("A worker process was terminated")})
    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: launcher)
    result = run_command("cops-train", "-m", *arguments(tmp_path, "seed=0,1,2"), cwd=tmp_path)
    assert only_error(result).endswith("ended before its jobs did: RuntimeError: A worker process was terminated")
    assert counts(result.stdout) == {"done": 0, "skipped": 0, "not": 3, "failed": 0}
