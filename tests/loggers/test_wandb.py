"""When W&B is asked online or offline, whose identity a run has, and what its pictures are made of."""

import netrc
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cops_lightning.loggers import weights_and_biases
from cops_lightning.loggers.weights_and_biases import BANDS, WandbRun, WandbSink, bands, overlay, wandb_mode
from cops_lightning.report.figures import Example

SERVER_VARIABLES = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_SWEEP_ID", "NETRC")


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    for name in SERVER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_a_key_a_run_is_offline():
    assert wandb_mode() == "offline"


def test_a_key_in_the_environment_means_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    assert wandb_mode() == "online"


def test_the_login_that_wandb_writes_for_its_host_means_online(monkeypatch, tmp_path):
    (tmp_path / "logins").write_text(f"machine api.wandb.ai login user password {40 * '0'}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "logins"))
    assert netrc.netrc(tmp_path / "logins").authenticators("api.wandb.ai")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")  # another server, for which there is no login
    assert wandb_mode() == "offline"


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_the_mode_that_the_user_asks_for_is_kept(mode, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode() == mode


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """The arguments of every wandb.init; those of online runs raise as W&B does for a bad key."""
    calls: list[dict] = []

    def init(**arguments):
        calls.append(arguments)
        if arguments["mode"] == "online":
            raise weights_and_biases.wandb.errors.AuthenticationError("API key must have 40+ characters, has 7.")
        return Mock(spec=weights_and_biases.wandb.Run)

    monkeypatch.setattr(weights_and_biases.wandb, "init", init)
    monkeypatch.setattr(weights_and_biases.wandb, "teardown", lambda: None)
    return calls


def open_sink(folder) -> WandbSink:
    return WandbSink(folder, WandbRun("abc123", "name", "project", "study", "cops", ["target:" + 90 * "x"], {}))


def test_a_run_has_the_identity_of_its_configuration(asked, tmp_path):
    open_sink(tmp_path)
    assert asked[0]["id"] == "abc123"


def test_a_job_of_a_wandb_sweep_keeps_the_identity_that_its_agent_gave_it(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    open_sink(tmp_path)
    assert asked[0]["id"] is None  # W&B then reads the agent's WANDB_RUN_ID


def test_a_refused_key_is_one_sentence_and_the_run_is_kept_offline(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "too few")
    open_sink(tmp_path)
    assert [call["mode"] for call in asked] == ["online", "offline"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "W&B did not take the run (AuthenticationError: API key must have 40+ characters, has 7.)" in said
    assert f"wandb sync {tmp_path / 'wandb'}/offline-*" in said


def test_who_asks_for_offline_is_not_told_to_log_in(asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_sink(tmp_path)
    assert capsys.readouterr().err == ""


def test_tags_are_cut_to_the_length_that_wandb_takes(asked, tmp_path):
    open_sink(tmp_path)
    assert [len(tag) for tag in asked[0]["tags"]] == [64]


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
