"""run.json, and the name of a run."""

import json
from copy import deepcopy

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cops_lightning.config import conf_folder, register
from cops_lightning.runs.record import RunRecord, run_id

CONFIG = {"seed": 0, "data": {"root": "/a", "batch_size": 8}, "backbone": {"name": "x", "weights": "/w"}}

# Where files lie and what computes; what is shown, tracked or done with the numbers. Everything else counts.
LEFT_OUT = {
    *("data.root", "data.roots", "data.cache", "data.workers", "data.eval_batch_size"),
    *("backbone.weights", "backbone.compile", "cache.enabled", "cache.budget_gb"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.deterministic", "trainer.progress"),
    *("logger", "report", "title", "fail_fast", "objective"),
}


def settings() -> dict:
    """What `cops-train targets=[mvtec]` is configured as."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("train", ["targets=[mvtec]"]), resolve=True, enum_to_str=True)


def test_the_settings_that_do_not_enter_a_runs_name_are_exactly_those_listed():
    whole = settings()
    ignored = set()
    for group, value in whole.items():
        for key in value if isinstance(value, dict) else [None]:
            changed = deepcopy(whole)
            (changed if key is None else changed[group])[group if key is None else key] = "something else"
            if run_id(changed) == run_id(whole):
                ignored.add(group if key is None or group in LEFT_OUT else f"{group}.{key}")
    assert ignored == LEFT_OUT


def test_groups_that_a_checkpoint_fills_in_later_enter_a_runs_name_too():
    assert run_id({**CONFIG, "auxiliary": None}) != run_id({**CONFIG, "auxiliary": {"pool": 5}})


@pytest.mark.parametrize("key", ["checkpoint", "backbone"])
def test_weights_enter_a_runs_name_by_content_and_not_by_path(tmp_path, key):
    def named(file) -> str:
        value = str(file) if key == "checkpoint" else {"name": "x", "weights": str(file)}
        return run_id({**CONFIG, key: value})

    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    assert named(tmp_path / "a") == named(tmp_path / "c") != named(tmp_path / "b")


def test_the_record_is_on_disk_from_the_start_and_says_how_the_run_ended(tmp_path):
    record = RunRecord(tmp_path, CONFIG, seed=0)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    record.finish("failed", "no space left")
    ended = json.loads((tmp_path / "run.json").read_text())
    assert (ended["status"], ended["error"], ended["config"]) == ("failed", "no space left", CONFIG)
    assert ended["run_id"] == run_id(CONFIG)


def test_further_processes_of_a_distributed_run_write_no_record(tmp_path):
    RunRecord(tmp_path, CONFIG, seed=0, written=False).finish("done")
    assert not list(tmp_path.iterdir())
