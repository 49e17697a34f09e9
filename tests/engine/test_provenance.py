"""run.json, and the name of a run."""

import json

from cops_lightning.engine.provenance import RunRecord, run_id

CONFIG = {"seed": 0, "data": {"root": "/a", "batch_size": 8}, "backbone": {"name": "x", "weights": "/w"}}


def test_a_runs_name_ignores_places_and_heeds_settings():
    moved = {"seed": 0, "data": {"root": "/b", "batch_size": 8}, "backbone": {"name": "x", "weights": None}}
    assert run_id(moved) == run_id(CONFIG)
    assert run_id({**CONFIG, "seed": 1}) != run_id(CONFIG)
    assert run_id({**CONFIG, "data": {"root": "/a", "batch_size": 4}}) != run_id(CONFIG)
    assert run_id({**CONFIG, "checkpoint": "a.ckpt"}) != run_id({**CONFIG, "checkpoint": "b.ckpt"})
    assert run_id({**CONFIG, "trainer": {"devices": 2}}) == run_id(CONFIG)


def test_the_record_is_on_disk_from_the_start_and_says_how_the_run_ended(tmp_path):
    record = RunRecord(tmp_path, CONFIG, seed=0)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    record.finish("failed", "no space left")
    ended = json.loads((tmp_path / "run.json").read_text())
    assert (ended["status"], ended["error"], ended["config"]) == ("failed", "no space left", CONFIG)
    assert ended["run_id"] == run_id(CONFIG)
