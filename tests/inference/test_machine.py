"""Precision, batch and threads are chosen by what is measured, once; what is asked for stands, and is warned of."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cops_lightning.data.readers.pictures import Picture
from cops_lightning.inference import machine
from cops_lightning.inference.machine import MEMORY, choose, cpu_flags, decoding_threads, possible, suited
from cops_lightning.models.cops import CoPS

CPU = torch.device("cpu")


@pytest.fixture
def measured(tiny_model: CoPS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine on which encoding takes the seconds that are set, and scores are those that are set."""
    monkeypatch.setenv("COPS_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    given = {"fp32": 1.0, "bf16": 0.5, "calls": 0, "change": 0.00005}

    def took(detector, images, timer):
        given["calls"] += 1
        return given[detector.backbone.precision]

    def scores(detector, images):
        return torch.full((4,), 0.5 + (given["change"] if detector.backbone.precision == "bf16" else 0))

    monkeypatch.setattr(machine, "_time", took)
    monkeypatch.setattr(machine, "_scores", scores)
    return given


def test_half_precision_is_chosen_where_it_is_faster_and_agrees_and_that_is_remembered(measured, tiny_model):
    found = choose(tiny_model)
    assert (found.precision, found.batch_size, found.speed["bf16"]) == ("bf16", 1, 2.0)
    assert found.change["bf16"] == pytest.approx(0.00005, rel=1e-2)
    assert str(found) == (
        "precision=bf16, batch_size=1: bf16 is 2.00 times as fast as fp32 here and changes scores by up to 5e-05"
    )
    assert tiny_model.backbone.precision == "bf16"
    calls = measured["calls"]
    tiny_model.backbone.use_precision("fp32")
    assert choose(tiny_model) == found
    assert measured["calls"] == calls, "once"
    tiny_model.backbone.use_precision("fp32")
    tiny_model.image_size = 32
    choose(tiny_model)
    assert measured["calls"] > calls, "another detector is measured"


@pytest.mark.parametrize(("seconds", "change"), [(0.84, 0.0), (2.0, 0.0), (0.1, 0.00012)])
def test_it_is_not_where_it_is_hardly_faster_or_moves_scores(measured, tiny_model, seconds, change):
    measured.update(bf16=seconds, change=change)
    assert choose(tiny_model).precision == "fp32"
    assert tiny_model.backbone.precision == "fp32"


def test_a_measurement_is_said_where_something_follows_from_it(measured, tiny_model):
    chosen, said = suited(tiny_model, "auto")
    assert said == str(chosen) != ""
    measured.update(bf16=7.0)
    tiny_model.image_size = 32
    tiny_model.backbone.use_precision("fp32")
    assert suited(tiny_model, "auto")[1] == ""


def test_a_cpu_without_it_is_not_measured(measured, tiny_model, monkeypatch):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert choose(tiny_model).precision == "fp32"
    assert measured["calls"] == 0


def test_a_precision_that_is_asked_for_stands_and_is_warned_of_where_it_is_slower(measured, tiny_model, capsys):
    measured.update(bf16=2.5)
    assert choose(tiny_model, "bf16").precision == "bf16"
    said = "precision=bf16 computes at 0.40 times the speed of fp32 on this machine; fp32 is faster."
    assert capsys.readouterr().err.count(said) == 1
    assert choose(tiny_model, "fp32").precision == "fp32"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "[]", "{", '{"KEY": 5}', '{"KEY": {"precision": "fp8", "batch_size": 1}}'])
def test_a_damaged_memory_is_measured_anew(measured, tiny_model, tmp_path, content):
    found = choose(tiny_model)
    (key,) = json.loads((tmp_path / MEMORY).read_text())
    (tmp_path / MEMORY).write_text(content.replace("KEY", key))
    tiny_model.backbone.use_precision("fp32")
    calls = measured["calls"]
    assert choose(tiny_model) == found
    assert measured["calls"] > calls


def test_what_the_machine_really_takes_is_measured(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("COPS_CACHE", str(tmp_path))
    found = choose(tiny_model)
    assert set(found.speed) in (set(), {"fp32", "bf16"})
    assert found.speed.get("fp32", 1.0) == 1.0
    assert found.change.get("fp32", 0.0) == 0.0
    assert possible(CPU) == (("fp32", "bf16") if {"avx512_bf16", "amx_bf16", "amx_tile"} & cpu_flags() else ("fp32",))


@pytest.mark.parametrize(("decode", "score", "threads"), [(0.1, 10.0, 1), (3.0, 1.0, 3), (100.0, 1.0, 4)])
def test_as_many_threads_decode_as_keep_up_with_the_detector(tiny_model, tmp_path, monkeypatch, decode, score, threads):
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    times = iter((0.0, decode, decode + score))
    assert decoding_threads(tiny_model, Picture("a.png", tmp_path / "a.png"), lambda: next(times)) == threads
