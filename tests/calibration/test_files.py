"""A calibration on disk: read as it was written, or refused in a sentence."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.made import IDENTITY, Made, calibration_of
from cops_lightning.calibration import Calibration, Weighing
from cops_lightning.core.errors import CalibrationError

RNG = np.random.default_rng(0)
FULL = calibration_of(
    RNG.random(24).tolist(),
    anomalous=(1 + RNG.random(20)).tolist(),
    features=RNG.normal(size=(24, 5)),
    use="f1",
    weighing=Weighing(miss=3.0),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    FULL.write(path)
    return path


def test_what_is_read_is_what_was_written_thresholds_included(written, tmp_path):
    assert Calibration.read(written) == FULL
    assert FULL.features is not None
    assert json.loads(written.read_text())["thresholds"] == {"image": FULL.threshold, "region": FULL.map_threshold}
    few = calibration_of([0.5], names=None)
    few.write(tmp_path / "few.json")
    assert Calibration.read(tmp_path / "few.json") == few
    assert few.threshold is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_damaged_anywhere_is_refused_in_a_sentence_or_equal(written, tmp_path, data):
    whole = written.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 12))
    damaged = whole[:at] + data.draw(st.binary(max_size=12) | st.sampled_from([b"0", b"NaN", b"1e999", b'"', b"[" * 9]))
    damaged += b"" if data.draw(st.booleans()) else whole[at + length :]
    path = tmp_path / "damaged.json"
    path.write_bytes(damaged)
    try:
        assert Calibration.read(path) == FULL
    except CalibrationError as error:
        assert str(path) in str(error)  # noqa: PT017
        assert "Make it anew" in str(error)  # noqa: PT017


def changed(written, tmp_path, **changes):
    """A file with other content and the checksum of it, as someone would write it by hand."""
    from cops_lightning.calibration.calibration import _checksum

    content = {**json.loads(written.read_text()), **changes}
    del content["sha256"]
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**content, "sha256": _checksum(content)}))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "cops-calibration 9"}, "its format is 'cops-calibration 9'; expected 'cops-calibration 1'"),
        ({"level": "0.05"}, "level is '0.05'"),
        ({"level": 0}, "The level is 0.0; expected a rate between 0 and 1"),
        ({"scores": [], "peaks": []}, "There are no normal images"),
        ({"scores": [0.5, 0.1], "peaks": [0.1, 0.5]}, "Scores do not ascend"),
        ({"scores": [0.1, None]}, "scores.1 is None"),
        ({"scores": [True] * 24}, "scores.0 is True"),
        ({"peaks": [0.5]}, "not as many highest map values as scores"),
        ({"identity": {"detector": "CoPS"}}, "identity.weights"),
        ({"thresholds": {"image": 0.0, "region": 0.0}}, "thresholds that do not follow from its scores"),
        ({"more": 1}, "something unknown"),
        ({"anomalous": []}, "A threshold for f1 needs anomalous images"),
        ({"use": "f2"}, "use is 'f2'"),
        (
            {"weighing": {"recall": 1.0, "false_alarm": 1, "miss": 1, "anomalous_share": None}},
            "recall asked for is 1.0",
        ),
    ],
)
def test_a_file_of_other_content_is_refused_and_what_is_wrong_is_named(written, tmp_path, changes, said):
    with pytest.raises(CalibrationError) as error:
        Calibration.read(changed(written, tmp_path, **changes))
    assert said in str(error.value)


def test_features_that_do_not_fit_together_are_refused(written, tmp_path):
    features = json.loads(written.read_text())["features"]
    for wrong in (
        {"mean": features["mean"][1:]},
        {"noise": 0.0},
        {"distances": features["distances"][::-1]},
        {"components": [], "variances": []},
    ):
        with pytest.raises(CalibrationError, match="The model of features does not fit together"):
            Calibration.read(changed(written, tmp_path, features={**features, **wrong}))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"scores": [NaN]}', b'"text"', b"{}"])
def test_a_file_that_is_something_else_is_a_sentence(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"other\.json (cannot be read|is no calibration)"):
        Calibration.read(path)
    with pytest.raises(CalibrationError, match="cannot be read .No such file"):
        Calibration.read(tmp_path / "absent.json")


def test_what_never_ends_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    for path in (tmp_path / "fifo.json", Path("/dev/zero")):
        with pytest.raises(CalibrationError, match="cannot be read .it is no regular file"):
            Calibration.read(path)


def test_another_detector_is_refused_by_what_is_other():
    FULL.require(replace(IDENTITY, backbone="another name of the same weights"))
    other = replace(IDENTITY, image_size=336, draws="image", weights="ffff")
    with pytest.raises(CalibrationError) as error:
        FULL.require(other, "calibration.json")
    assert str(error.value) == (
        "calibration.json was made by another detector than this one: weights 1a2b instead of ffff, image size 48 "
        "instead of 336, draws fixed instead of image. Use the one that it was made by, or calibrate this one by "
        "cops-calibrate."
    )


def test_images_of_equal_pixels_count_once_and_are_counted():
    images = [Made(0.1, 0.3, "a"), Made(0.1, 0.4, "a"), Made(0.2, 0.2, "b")]
    made = Calibration.of(IDENTITY, iter(images))
    assert (made.scores, made.peaks, made.repeated) == ((0.1, 0.2), (0.2, 0.4), 1)
    assert Calibration.of(IDENTITY, images[::-1]) == made
    assert Calibration.of(IDENTITY, [Made(0.1, 0.3, ""), Made(0.1, 0.3, "")]).n == 2, "without names nothing is equal"
    with pytest.raises(CalibrationError, match="1 of the images are among the normal and among the anomalous ones"):
        Calibration.of(IDENTITY, images, anomalous=images[2:])
    with pytest.raises(CalibrationError, match="There are no normal images"):
        Calibration.of(IDENTITY, [])
    with pytest.raises(CalibrationError, match="not finite"):
        Calibration.of(IDENTITY, [Made(float("nan"), 0.3, "a")])
