"""run.json: what produced a run."""

import json

import pytest

from cops_lightning.data.datamodules import Folder
from cops_lightning.data.readers.index_file import read_index
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.models.module import EncoderCount
from cops_lightning.report.tables import Run
from cops_lightning.runs.record import RunRecord

CONFIG = {"seed": 3, "paths": {"data": "/a"}}
RUN = Run("0123456789ab", "ba9876543210", "trial", "cops", 3, "none")


def read(folder) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_the_record_is_on_disk_from_the_start_and_says_how_the_run_ended(tmp_path):
    record = RunRecord(tmp_path, CONFIG, RUN, {"model": {"pool": 5}})
    assert read(tmp_path)["status"] == "running"
    record.finish("failed", "no space left")
    ended = read(tmp_path)
    assert (ended["status"], ended["error"], ended["config"], ended["seed"]) == ("failed", "no space left", CONFIG, 3)
    assert (ended["run_id"], ended["method"]) == ("0123456789ab", "ba9876543210")
    assert ended["method_settings"] == {"model": {"pool": 5}}


def test_it_names_data_backbone_and_what_the_encoder_saw(tmp_path, parts, tiny_model):
    record = RunRecord(tmp_path, CONFIG, RUN)
    data = Folder(parts)
    data.find()
    record.add_data("auxiliary", data.auxiliary)
    record.add_backbone(tiny_model.backbone.record)
    record.add_encoder(EncoderCount(16, 2))
    found = read(tmp_path)
    (auxiliary,) = found["data"]
    assert (auxiliary["role"], auxiliary["name"]) == ("auxiliary", "parts")
    assert auxiliary["categories"]["bolt"]["test"] == {"normal": 4, "anomalous": 4}
    assert (tmp_path / auxiliary["manifest"]).read_text().count("bolt/test") >= 8
    assert found["backbone"]["fingerprint"] == tiny_model.backbone.record.fingerprint
    assert found["image_encoder"] == {"images_encoded": 16, "images_from_cache": 2}


@pytest.mark.parametrize("name", ["../../../outside", "/tmp/outside", "nul", "a\\b", "n" * 200])
def test_the_manifest_lies_in_the_run_whatever_a_dataset_calls_itself(tmp_path, parts, name):
    run = tmp_path / "a" / "b" / "run"
    record = RunRecord(run, CONFIG, RUN)
    record.add_data("target", load_index(parts).renamed(name))
    (target,) = read(run)["data"]
    assert target["name"] == name
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == sorted([run / "run.json", run / target["manifest"]])
    assert read_index(run / target["manifest"]).name == name


@pytest.mark.parametrize("status", ["done", "failed"])
def test_further_processes_of_a_distributed_run_write_no_record(tmp_path, status, parts):
    record = RunRecord(tmp_path, CONFIG, RUN, written=False)
    data = Folder(parts)
    data.find()
    record.add_data("auxiliary", data.auxiliary)
    record.finish(status)
    assert not list(tmp_path.iterdir())
