"""What W&B receives: read back from the data file of runs that are kept offline."""

import inspect
import json
import netrc
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import wandb
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import auc
from torch import nn
from wandb.sdk.lib.urls import DEFAULT_BASE_URL

from cops_lightning.core.errors import DatasetError
from cops_lightning.loggers import RunInfo, WandbLogger, tracked
from cops_lightning.loggers.wandb_logger import STEP, VARIABLES, logged_in, trained_parts
from cops_lightning.loggers.wandb_media import BANDS, bands, overlay
from cops_lightning.report.figures import Example
from documentation.offline_runs import attempts, latest

SERVER_VARIABLES = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_SWEEP_ID", "WANDB_CONSOLE", "NETRC")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    for name in (*SERVER_VARIABLES, *VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def log_steps(logger, steps: range) -> None:
    """A loss that is a tenth of the step, and an epoch's end after every third step, as Lightning logs them."""
    for step in steps:
        logger.log_metrics({"loss_step": step / 10}, step)
        if step % 3 == 2:
            logger.log_metrics({"loss_epoch": step / 10}, step)


# A run that ends well.


@pytest.fixture
def tracked_run(run, evaluation):
    """The data of a run that trained, was evaluated and ended."""
    (run.folder / "checkpoints").mkdir()
    for name in ("last.ckpt", "released.pth"):
        (run.folder / "checkpoints" / name).write_bytes(name.encode())
    (run.folder / "run.json").write_text(json.dumps({"git": None, "config": {}, "status": "running"}))
    (run.folder / "run.log").write_text("12:00 INFO: so far so good\n")
    logger = WandbLogger(save_dir=run.folder, project="p")
    with tracked([logger], run):
        log_steps(logger, range(3))
        logger.log_evaluation(evaluation)
    return latest(run.folder)


def test_a_run_arrives_whole(tracked_run, run, evaluation):
    """One run for all that is asked of it, as each costs seconds."""
    filed = tracked_run.run()
    assert (filed.run_id, filed.display_name, filed.project) == ("abc123", "cops-parts-seed0", "p")
    assert (filed.run_group, filed.job_type) == ("trial", "cops")
    assert set(filed.tags) == {"auxiliary:parts", "target:tiles", "backbone:tiny"}
    config = tracked_run.config()
    assert {key: config[key] for key in run.config} == run.config
    assert config["method"] == "0f0f"
    assert config["provenance"] == {"git": None}

    history = tracked_run.history()
    assert [line[STEP] for line in history if "loss_step" in line] == [0, 1, 2]
    assert [line["_step"] for line in history] == list(range(len(history)))
    summary = tracked_run.summary()
    assert summary["tiles/image_auroc"] == summary["mean/image_auroc"] == 0.75
    assert summary["status"] == "done"
    assert 0 < summary["duration_seconds"] < 600
    assert "error" not in summary
    assert tracked_run.exit_code() == 0

    table = tracked_run.table("results")
    assert [(line["target"], line["category"], line["image_auroc"]) for line in table] == [
        ("tiles", "part", 0.75),
        ("tiles", "mean", 0.75),
    ]
    roc = tracked_run.table("tiles/image_roc_table")
    area = auc([line["false_positive_rate"] for line in roc], [line["true_positive_rate"] for line in roc])
    assert area == pytest.approx(0.75)
    assert [line["precision"] for line in tracked_run.table("tiles/image_pr_table")] == [1.0, 0.6]
    assert summary["tiles/heatmaps/count"] == 1
    assert set(summary["tiles/heatmaps/all_masks"][0]) == {"anomaly_map", "ground_truth"}
    sheet = tracked_run.files / summary["tiles/contact_sheet/path"]
    assert sheet.read_bytes() == (evaluation.drawn / "tiles.png").read_bytes()

    (artifact,) = tracked_run.artifacts()
    assert {entry.path for entry in artifact.manifest.contents} == {"last.ckpt", "released.pth"}
    assert set(artifact.aliases) == {"best", "last", "latest"}
    assert (tracked_run.files / "run.log").read_text() == "12:00 INFO: so far so good\n"
    assert "run.log" in tracked_run.saved()


def test_a_best_checkpoint_is_a_version_of_its_own(run):
    (run.folder / "checkpoints").mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (run.folder / "checkpoints" / name).write_bytes(name.encode())
    logger = WandbLogger(save_dir=run.folder)
    callback = Mock(spec=ModelCheckpoint, monitor="val", best_model_path=str(run.folder / "checkpoints" / "best.ckpt"))
    with tracked([logger], run):
        logger.after_save_checkpoint(callback)
    found = {frozenset(a.aliases): {e.path for e in a.manifest.contents} for a in latest(run.folder).artifacts()}
    assert found == {frozenset({"best", "latest"}): {"best.ckpt"}, frozenset({"last", "latest"}): {"last.ckpt"}}


def test_a_failed_run_carries_its_reason_its_traceback_and_its_console(run):
    (run.folder / "run.log").write_text("12:00 ERROR: the disk is full\n")
    with pytest.raises(DatasetError), tracked([WandbLogger(save_dir=run.folder)], run):
        raise DatasetError("part/003.png cannot be read.")
    found = latest(run.folder)
    assert found.exit_code() == 1
    assert found.summary()["status"] == "failed"
    assert found.summary()["error"] == "part/003.png cannot be read."
    assert found.saved() >= {"run.log", "traceback.txt"}
    assert "the disk is full" in (found.files / "run.log").read_text()
    written = (found.files / "traceback.txt").read_text()
    assert 'raise DatasetError("part/003.png cannot be read.")' in written
    assert not found.artifacts()


def test_an_interrupted_run_says_so(run):
    with pytest.raises(SystemExit), tracked([WandbLogger(save_dir=run.folder)], run):
        raise SystemExit(143)
    assert latest(run.folder).summary()["status"] == "interrupted"


# What a run is filed under.


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """The arguments of every wandb.init; those of online runs raise as W&B does for a bad key."""
    calls: list[dict] = []

    def init(**arguments):
        calls.append(arguments)
        if arguments["mode"] == "online" and os.environ["WANDB_API_KEY"] == "too few":
            raise wandb.errors.AuthenticationError("API key must have 40+ characters, has 7.")
        return fake_run()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    return calls


def fake_run(starting_step: int = 0) -> Mock:
    """A run of W&B that counts its rows."""
    run = Mock(spec=wandb.Run, starting_step=starting_step, step=starting_step, id="abc123", resumed=starting_step > 0)
    run.settings.sync_dir, run.rows = "nowhere/offline-run-1-abc123", []

    def log(row):
        run.rows.append(row)
        run.step += 1

    run.log.side_effect = log
    return run


def start(run, **given) -> None:
    WandbLogger(**given).start(run)


def test_an_evaluation_is_filed_as_one_with_the_settings_of_its_method(asked, run):
    config = {"checkpoint": "last.ckpt", "auxiliary": None, "model": {"pool": 3, "limit": None}, "preset": {}}
    record = {**asdict(run.identity), "config": config, "method_settings": {"preset": {"epochs": 5}}}
    start(RunInfo.of(run.folder, record))
    (call,) = asked
    assert (call["job_type"], call["name"]) == ("evaluation", "evaluation-cops-parts-seed0")
    assert {key: call["config"][key] for key in ("checkpoint", "model", "preset")} == {
        "checkpoint": "last.ckpt",
        "preset": {"epochs": 5},
        "model": {"pool": 3},
    }
    assert "auxiliary" not in call["config"]


def test_what_the_user_gives_wins_over_what_the_run_would_be_filed_under(asked, run, tmp_path):
    given = {
        "id": "mine",
        "name": "my run",
        "group": "g",
        "job_type": "j",
        "tags": ["t"],
        "entity": "team",
        "notes": "n",
        "dir": str(tmp_path),
        "mode": "disabled",
    }
    start(run, save_dir="elsewhere", config={"seed": 7, "more": 1}, settings={"console": "wrap"}, **given)
    (call,) = asked
    assert {key: call[key] for key in given} == given
    assert (call["config"]["seed"], call["config"]["more"], call["config"]["study"]) == (7, 1, "trial")
    assert (call["settings"]["console"], call["settings"]["silent"]) == ("wrap", True)


def test_the_signature_has_the_arguments_of_wandb_init_and_no_others():
    known = inspect.signature(WandbLogger).parameters
    assert known.keys() >= {"watch", "project", "entity", "tags", "notes", "group", "mode", "settings", "id", "dir"}
    assert known["entity"].annotation == str | None
    assert not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())


@pytest.mark.parametrize(("argument", "variable"), VARIABLES.items())
def test_a_variable_of_the_environment_goes_before_what_the_run_would_be_filed_under(
    argument, variable, asked, run, monkeypatch
):
    monkeypatch.setenv(variable, "mine")
    start(run)
    assert argument not in asked[0], "W&B reads the variable where no argument is given"


def test_what_is_given_goes_before_the_environment(asked, run, monkeypatch):
    for argument, variable in VARIABLES.items():
        monkeypatch.setenv(variable, f"{argument} of the environment")
    start(run, project="p", name="n", tags=["t"], group="g", id="i")
    assert {key: asked[0][key] for key in ("project", "name", "tags", "group", "id")} == {
        "project": "p",
        "name": "n",
        "tags": ["t"],
        "group": "g",
        "id": "i",
    }


def test_the_environment_may_open_the_console_that_is_ours_to_close(asked, run, monkeypatch):
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    start(run)
    assert "console" not in asked[0]["settings"]


def test_a_job_of_a_wandb_sweep_keeps_the_identity_that_its_agent_gave_it(asked, run, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    start(run)
    assert "id" not in asked[0]  # W&B then reads the agent's WANDB_RUN_ID


def test_jobs_of_a_multirun_that_an_agent_starts_are_runs_of_its_sweep_with_identities_of_their_own(run, tmp_path):
    """In a process of its own, as W&B reads its variables once."""
    program = """
import sys
from pathlib import Path
from cops_lightning.loggers import RunInfo, WandbLogger, tracked
from cops_lightning.report.tables import Run
for run_id in ("one", "two"):
    folder = Path(sys.argv[1]) / run_id
    folder.mkdir()
    with tracked([WandbLogger()], RunInfo(Run(run_id, "m", "s", "v", 0, "a"), (), "b", folder, {}, one_of_many=True)):
        pass
"""
    agent = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "agents", "WANDB_MODE": "offline", "WANDB_PROJECT": "theirs"}
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"} | agent
    subprocess.run([sys.executable, "-c", program, tmp_path], env=environment, check=True)
    runs = [latest(tmp_path / name).run() for name in ("one", "two")]
    assert [(found.run_id, found.sweep_id, found.project) for found in runs] == [
        ("one", "sweep1", "theirs"),
        ("two", "sweep1", "theirs"),
    ]


def test_tags_are_cut_to_the_length_that_wandb_takes(asked, run):
    start(type(run)(**{**vars(run), "targets": (90 * "x",)}))
    assert max(len(tag) for tag in asked[0]["tags"]) == 64


# Online or offline.


def test_without_a_key_a_run_is_offline_and_says_how_to_send_it(asked, run, capsys):
    start(run, save_dir=run.folder)
    assert asked[0]["mode"] == "offline"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"There is no login for W&B, so the run is kept offline; send it later by: wandb sync {run.folder}" in said


@pytest.mark.parametrize("given", [{"offline": True}, {"mode": "offline"}])
def test_who_asks_for_offline_is_not_told_to_log_in(given, asked, run, capsys):
    start(run, **given)
    assert asked[0]["mode"] == "offline"
    assert capsys.readouterr().err == ""


def test_a_key_in_the_environment_means_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    assert logged_in()


@pytest.mark.parametrize("host", ["api.wandb.ai", urlsplit(DEFAULT_BASE_URL).hostname])
def test_the_login_that_wandb_writes_for_its_host_means_online(host, monkeypatch, tmp_path):
    (tmp_path / "logins").write_text(f"machine {host} login user password {40 * '0'}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "logins"))
    assert netrc.netrc(tmp_path / "logins").authenticators(host)
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")  # another server, for which there is no login
    assert not logged_in()


@pytest.mark.parametrize(
    ("said", "mode"), [("online", "online"), ("offline", "offline"), ("disabled", "disabled"), ("dryrun", "offline")]
)
def test_the_mode_that_the_environment_asks_for_is_kept(said, mode, asked, run, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_MODE", said)
    start(run)
    assert asked[0]["mode"] == mode
    assert capsys.readouterr().err == ""


def test_a_refused_key_is_one_sentence_and_the_run_is_kept_offline(asked, run, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "too few")
    start(run, save_dir=run.folder)
    assert [call["mode"] for call in asked] == ["online", "offline"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "W&B did not take the run (AuthenticationError: API key must have 40+ characters, has 7.)" in said
    assert f"wandb sync {run.folder / 'wandb'}/offline-*" in said


# A run that goes on.


@pytest.mark.parametrize("killed_at", [7, 9])
def test_the_file_of_the_last_attempt_has_every_step_once_and_the_others_are_not_sent(killed_at, run):
    killed = WandbLogger(save_dir=run.folder)
    killed.start(run)
    log_steps(killed, range(killed_at))
    wandb.teardown(exit_code=255)  # a kill: the run never ended

    resumed = WandbLogger(save_dir=run.folder)
    with tracked([resumed], run):
        log_steps(resumed, range(6, 12))  # from the end of the last epoch
    assert latest(run.folder).exit_code() == 0
    first, second = attempts(run.folder)
    assert {first.run().run_id, second.run().run_id} == {"abc123"}
    assert [first.marked, second.marked] == [True, False]
    history = second.history()
    assert [line[STEP] for line in history if "loss_step" in line] == list(range(12))
    assert [line["loss_step"] for line in history if "loss_step" in line] == [step / 10 for step in range(12)]
    assert [line[STEP] for line in history if "loss_epoch" in line] == [2, 5, 8, 11]
    assert [line["_step"] for line in history] == list(range(len(history)))
    # A repeated row keeps its time.
    times = {line[STEP]: line["_timestamp"] for line in first.history() if "loss_step" in line}
    for line in history:
        if "loss_step" in line and line[STEP] < 6:
            assert line["_timestamp"] == pytest.approx(times[line[STEP]], abs=0.5)


def test_wandb_sync_takes_the_file_of_the_last_attempt_alone(run):
    for steps in (range(4), range(3, 6)):
        logger = WandbLogger(save_dir=run.folder)
        with tracked([logger], run):
            log_steps(logger, steps)
    latest(run.folder)
    folders = sorted(map(str, (run.folder / "wandb").glob("offline-run-*")))
    program = Path(sys.executable).with_name("wandb")
    result = subprocess.run([program, "sync", "--dry-run", *folders], capture_output=True, text=True, check=True)
    said = result.stdout + result.stderr
    assert "Would sync 1 run(s)" in said
    assert folders[1] in said.replace("\n", "") or Path(folders[1]).name in said


def resume_online(run, monkeypatch, starting_step: int) -> tuple[dict, Mock]:
    """Go on from step 6 with a server that has the first rows of the run; the arguments and the run of W&B."""
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    calls, opened = [], fake_run(starting_step)
    monkeypatch.setattr(wandb, "init", lambda **arguments: calls.append(arguments) or opened)
    logger = WandbLogger()
    with tracked([logger], run):
        log_steps(logger, range(6, 9))
    return calls[0], opened


@pytest.fixture
def killed(run, monkeypatch):
    """An attempt that was killed after step 7, of which every row is known: eight steps and two epochs."""
    monkeypatch.setattr(wandb, "init", lambda **_: fake_run())
    logger = WandbLogger(offline=True)
    logger.start(run)
    log_steps(logger, range(8))


def logged(opened: Mock) -> list[tuple[int, str]]:
    return [(row[STEP], name) for row in opened.rows for name in row if name.startswith("loss")]


WHOLE = [(0, "s"), (1, "s"), (2, "s"), (2, "e"), (3, "s"), (4, "s"), (5, "s"), (5, "e"), (6, "s"), (7, "s"), (8, "s")]
WHOLE = [(step, {"s": "loss_step", "e": "loss_epoch"}[kind]) for step, kind in [*WHOLE, (8, "e")]]


@pytest.mark.parametrize("received", [0, 3, 8, 10])
def test_a_server_that_has_part_of_the_run_gets_the_rest_once(received, run, killed, monkeypatch):
    call, opened = resume_online(run, monkeypatch, received)
    assert call["resume"] == "allow"
    assert logged(opened) == WHOLE[received:]


def test_a_run_that_begins_again_does_not_go_on_from_what_the_server_has(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    calls = []
    monkeypatch.setattr(wandb, "init", lambda **arguments: calls.append(arguments) or fake_run())
    start(run)
    assert "resume" not in calls[0]  # W&B replaces the run of that identity


# Pictures, and what is watched.


@given(score=st.floats(-1, 2), low=st.floats(0, 0.4), high=st.floats(0.5, 1))
def test_bands_are_those_of_the_fixed_scale_whatever_else_is_in_the_map(score, low, high):
    (band,) = bands(np.array([[score]]), (low, high)).flat
    edges = np.linspace(low, high, BANDS + 1)
    assert score >= edges[band] - 1e-9 or band == 0
    assert score <= edges[band + 1] + 1e-9 or band == BANDS - 1


def test_without_a_mask_there_is_no_ground_truth_to_overlay():
    example = Example(
        "part/000", np.zeros((6, 8, 3), dtype=np.uint8), None, np.full((4, 4), 0.75), 0.75, anomalous=True
    )
    assert set(overlay(example, (0.0, 1.0))._masks) == {"anomaly_map"}


def test_only_what_is_trained_is_watched():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    head = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model = nn.Sequential(frozen, nn.Sequential(head, nn.Linear(2, 2).requires_grad_(False)))
    assert list(trained_parts(model)) == [head]
    assert list(trained_parts(head)) == [head]
    assert list(trained_parts(frozen)) == []


def test_gradients_are_logged_where_that_is_asked_for(run):
    logger, model = WandbLogger(save_dir=run.folder, watch="gradients", watch_every=1), nn.Linear(2, 1)
    with tracked([logger], run):
        logger.log_graph(model)
        model(torch.ones(1, 2)).sum().backward()
        logger.log_metrics({"loss": 1.0}, 0)
    (line,) = latest(run.folder).history()
    assert {key.split("/")[1] for key in line if key.startswith("gradients/")} == {"weight", "bias"}


def test_without_a_start_it_is_lightnings_logger(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, offline=True, id="notebook")
    logger.log_metrics({"loss": 1.0}, 3)
    logger.log_hyperparams({"lr": 0.1})
    logger.experiment.finish()
    found = latest(Path(tmp_path))
    assert found.run().run_id == "notebook"
    assert [line[STEP] for line in found.history()] == [3]
    assert found.config()["lr"] == 0.1
