"""`cops-track`, over a run folder that the tests write, read back from each tracker."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cops_lightning.cli.track import main
from documentation.offline_runs import attempts, latest

RESULTS = """\
run_id,method,study,variant,seed,auxiliary,target,category,level,metric,value,n_normal,n_anomalous
abc123,0f0f,trial,cops,1,parts,tiles,part,image,auroc,0.75,2,3
abc123,0f0f,trial,cops,1,parts,tiles,mean,image,auroc,0.75,2,3
"""
CURVES = """\
step,tiles/image_auroc,train/total_epoch,train/total_step
0,,,2.0
1,,,1.0
1,,1.5,
2,0.75,,
"""


def write_run(folder: Path, **changes: object) -> Path:
    """The folder of a run that is done."""
    record = {
        "run_id": "abc123",
        "method": "0f0f",
        "study": "trial",
        "variant": "cops",
        "seed": 1,
        "auxiliary": "parts",
        "status": "done",
        "duration_seconds": 12.5,
        "config": {"study": "trial", "variant": "cops", "model": {"pool": 3}},
        "backbone": {"name": "tiny"},
        "data": [{"role": "auxiliary", "name": "parts"}, {"role": "target", "name": "tiles"}],
    }
    (folder / "heatmaps" / "tiles").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "run.json").write_text(json.dumps(record | changes))
    (folder / "results.csv").write_text(RESULTS)
    (folder / "metrics.csv").write_text(CURVES)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"weights")
    for name in ("tiles.png", "tiles/square_000.png"):
        Image.fromarray(np.full((6, 8, 3), 200, dtype=np.uint8)).save(folder / "heatmaps" / name)
    return folder


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_SWEEP_ID", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "runs" / "one")


def test_a_run_is_sent_to_wandb_as_if_it_had_been_tracked(folder, capsys):
    assert main([str(folder.parent), "--logger", "wandb", "--project", "p", "--entity", "team"]) == 0
    assert f"sent abc123: {folder}" in capsys.readouterr().out
    found = latest(folder)
    run = found.run()
    assert (run.run_id, run.project, run.entity, run.display_name) == ("abc123", "p", "team", "cops-parts-seed1")
    assert (run.run_group, run.job_type) == ("trial", "cops")
    assert found.config()["model"] == {"pool": 3}
    curve = [
        (line["trainer/global_step"], line["train/total_step"])
        for line in found.history()
        if "train/total_step" in line
    ]
    assert curve == [(0, 2.0), (1, 1.0)]
    summary = found.summary()
    assert (summary["status"], summary["duration_seconds"], summary["tiles/image_auroc"]) == ("done", 12.5, 0.75)
    assert [line["category"] for line in found.table("results")] == ["part", "mean"]
    assert summary["tiles/contact_sheet/path"]
    assert summary["tiles/heatmaps/count"] == 1
    (artifact,) = found.artifacts()
    assert [entry.path for entry in artifact.manifest.contents] == ["last.ckpt"]


@pytest.mark.parametrize("run_id", ["a' or 1=1", "../up", "\x1b[31mred", "", "x" * 200])
def test_an_identity_that_no_run_has_is_refused(tmp_path, capsys, run_id):
    folder = write_run(tmp_path / "one", run_id=run_id)
    for logger in ("wandb", "mlflow", "tensorboard"):
        assert main([str(folder), "--logger", logger]) == 1
        said = capsys.readouterr().err
        assert "is not what a run writes: its run_id is" in said
        assert "\x1b" not in said


def test_what_a_link_leads_to_outside_of_the_run_is_not_sent(folder, tmp_path, capsys):
    (tmp_path / "secret").write_text("secret")
    (folder / "heatmaps" / "inside.png").symlink_to(folder / "heatmaps" / "tiles.png")
    (folder / "checkpoints" / "last.ckpt").unlink()
    (folder / "checkpoints" / "last.ckpt").symlink_to(tmp_path / "secret")
    assert main([str(folder), "--logger", "tensorboard"]) == 1
    assert "last.ckpt leads out of the folder of its run. Nothing of it was sent." in capsys.readouterr().err


def test_a_run_that_is_sent_twice_is_in_wandb_once(folder):
    for _ in range(2):
        assert main([str(folder), "--logger", "wandb"]) == 0
        found = latest(folder)
    assert [attempt.marked for attempt in attempts(folder)] == [True, False]
    assert [line["trainer/global_step"] for line in found.history() if "train/total_step" in line] == [0, 1]


def test_a_failed_run_is_sent_with_its_reason(tmp_path):
    folder = write_run(tmp_path / "failed", status="failed", error="The disk is full.")
    (folder / "traceback.txt").write_text("Traceback ... OSError\n")
    (folder / "results.csv").unlink()
    assert main([str(folder), "--logger", "wandb"]) == 0
    found = latest(folder)
    assert (found.summary()["status"], found.summary()["error"]) == ("failed", "The disk is full.")
    assert found.exit_code() == 1
    assert (found.files / "traceback.txt").read_text() == "Traceback ... OSError\n"


def test_an_evaluation_is_sent_as_one(tmp_path):
    config = {"study": "trial", "variant": None, "checkpoint": "last.ckpt"}
    assert main([str(write_run(tmp_path / "evaluation", config=config)), "--logger", "wandb"]) == 0
    run = latest(tmp_path / "evaluation").run()
    assert (run.display_name, run.job_type) == ("evaluation-cops-parts-seed1", "evaluation")


def test_a_run_is_sent_to_tensorboard_once(folder):
    for _ in range(2):
        assert main([str(folder), "--logger", "tensorboard"]) == 0
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/total_step")] == [(0, 2.0), (1, 1.0)]
    assert [(event.step, event.value) for event in events.Scalars("tiles/image_auroc")] == [(2, 0.75)]
    assert set(events.Tags()["images"]) == {"tiles/contact_sheet", "tiles/heatmaps/square_000"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of its database library
def test_a_run_is_sent_to_mlflow_once(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow keeps what is no number
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for _ in range(2):
        assert main([str(folder), "--logger", "mlflow", "--uri", uri]) == 0
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert run.data.params["model/pool"] == "3"
    assert run.data.metrics["tiles/image_auroc"] == 0.75
    assert [point.value for point in client.get_metric_history(run.info.run_id, "train/total_step")] == [2.0, 1.0]
    assert {"results.csv", "run.json", "heatmaps", "checkpoints"} <= {
        artifact.path for artifact in client.list_artifacts(run.info.run_id)
    }
    assert run.info.status == "FINISHED"


def test_a_run_that_goes_on_is_not_sent(tmp_path, capsys):
    write_run(tmp_path / "running", status="running")
    assert main([str(tmp_path), "--logger", "wandb"]) == 1
    said = capsys.readouterr()
    assert f"not sent: {tmp_path / 'running'} has not ended." in said.out
    assert f"There is no run that has ended in or below {tmp_path}" in said.err


@pytest.mark.parametrize(("content", "complaint"), [("{", "is no JSON"), ("[]", "is not what a run writes")])
def test_a_broken_record_is_named(content, complaint, tmp_path, capsys):
    (tmp_path / "run.json").write_text(content)
    assert main([str(tmp_path), "--logger", "wandb"]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(40))
def test_damaged_curves_are_one_sentence_or_sent(seed, tmp_path, capsys):
    draw, file = random.Random(seed), write_run(tmp_path / "a") / "metrics.csv"
    damaged = bytearray(CURVES, "utf-8")
    for _ in range(2):
        at = draw.randrange(len(damaged))
        damaged[at : at + draw.choice([1, 9])] = draw.choice([b"", b"\xff", b"\0", b",", b"x", b'"', b"9e999"])
    file.write_bytes(damaged)
    if main([str(tmp_path / "a"), "--logger", "tensorboard"]):
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {file} cannot be read (")


def test_results_that_were_changed_after_the_run_are_not_sent(tmp_path, capsys):
    folder = write_run(tmp_path / "a", results_sha256="0" * 64)
    assert main([str(folder), "--logger", "tensorboard"]) == 1
    assert f"error: {folder / 'results.csv'} is not the one that the run wrote." in capsys.readouterr().err


def test_a_tracker_that_fails_is_one_sentence_and_the_exit_code(folder, capsys, monkeypatch):
    monkeypatch.setattr("wandb.init", lambda **_: 1 / 0)
    assert main([str(folder), "--logger", "wandb"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "Weights & Biases failed (ZeroDivisionError: division by zero)" in said.err
    assert "sent" not in said.out


def test_help_imports_nothing_that_takes_seconds():
    program = (
        "import sys; from cops_lightning.cli.track import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'lightning', 'wandb', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("[]\n")
