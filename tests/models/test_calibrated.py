"""A detector with a calibration: whose it is, what it says, and that its rate holds on rendered images."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image

import cops_lightning as cl
from cops_lightning.calibration import Calibration
from cops_lightning.core.errors import CalibrationError, ConfigError
from cops_lightning.demo.images import example
from cops_lightning.models.baselines.clip import PlainClip
from cops_lightning.models.prediction import Rule
from released import released_cops


def photos(n: int, seed: int = 0, dark: float = 1.0) -> list[np.ndarray]:
    """Grey noise with a brighter corner of varying size."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        pixels = rng.normal(100, 30, (40, 56, 3))
        pixels[: rng.integers(4, 30), : rng.integers(4, 30)] += 60
        found.append((dark * pixels).clip(0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def calibration(tiny_clip_state: dict[str, torch.Tensor]) -> Calibration:
    """That of `tiny_model`."""
    model = released_cops(tiny_clip_state, None, auxiliary="visa", image_size=48)
    return Calibration.of(model.identity(), model.predict(photos(40), batch_size=8, workers=0))


def test_predictions_have_the_verdict_the_p_value_and_the_regions_of_the_calibration(tiny_model, calibration, tmp_path):
    calibration.write(tmp_path / "calibration.json")
    further = photos(6, seed=1)
    found = list(tiny_model.predict(further, calibration=tmp_path / "calibration.json", workers=0))
    plain = list(tiny_model.predict(further, rule=Rule(map_threshold=calibration.map_threshold), workers=0))
    for one, same in zip(found, plain, strict=True):
        assert one.score == same.score
        assert one.threshold == calibration.threshold
        assert one.p_value == calibration.p_value(one.score)
        assert (one.label == "anomalous") == (one.p_value <= 0.05)
        assert [region[:6] for region in one.regions] == [region[:6] for region in same.regions]
        assert all(region.p_value == calibration.region_p_value(region.peak) <= 0.05 for region in one.regions)
    again = list(tiny_model.predict(photos(40), calibration=calibration, batch_size=8, workers=0))
    assert sum(one.label == "anomalous" for one in again) == sum(bool(one.regions) for one in again) == 1, (
        "of 40 images one is above the threshold: 2 of 41 are at most 5 %"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"batch_size": -1}, "batch_size is -1; expected 1 or more"),
        ({"workers": -1}, "workers is -1; expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused_and_no_stream_ends_before_it_began(tiny_model, options, said):
    with pytest.raises(ConfigError, match=said):
        list(tiny_model.predict(photos(2), **options))


def test_a_threshold_that_is_no_number_would_call_everything_normal():
    for values in ({"threshold": float("nan")}, {"map_threshold": float("nan")}):
        with pytest.raises(ConfigError, match="is nan; expected a number"):
            Rule(**values)


def test_a_rule_and_a_calibration_are_not_given_together(tiny_model, calibration):
    with pytest.raises(ConfigError, match="Both a rule and a calibration"):
        tiny_model.predict(photos(1), rule=Rule(0.5), calibration=calibration)


def test_thresholds_are_given_as_to_the_command_and_not_beside_what_decides_too(tiny_model, calibration):
    (found,) = tiny_model.predict(photos(1), threshold=0.2)
    (same,) = tiny_model.predict(photos(1), map_threshold=0.3)
    assert (found.threshold, found.rule.map_threshold) == (0.2, 0.5)
    assert (same.threshold, same.rule.map_threshold) == (None, 0.3)
    for name in ("threshold", "map_threshold"):
        for other in ({"calibration": calibration}, {"rule": Rule(0.5)}):
            with pytest.raises(ConfigError, match=f"Both {name} and a {next(iter(other))} are given"):
                tiny_model.predict(photos(1), **{name: 0.5}, **other)


def test_a_bad_file_ends_what_predict_gives_and_is_one_outcome_among_others(tiny_model, tmp_path):
    for name in ("a", "c"):
        Image.fromarray(photos(1)[0]).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    found = []
    with pytest.raises(cl.ReadingError, match=r"b\.png cannot be read") as error:
        found.extend(one.path.name for one in tiny_model.predict(tmp_path, workers=0))
    assert issubclass(cl.ReadingError, cl.DatasetError)
    assert isinstance(error.value, cl.CopsError)
    outcomes = list(tiny_model.outcomes(tmp_path, workers=0))
    assert [isinstance(one, cl.Unreadable) for one in outcomes] == [False, True, False]
    assert inspect.signature(tiny_model.predict).parameters == inspect.signature(tiny_model.outcomes).parameters


def test_another_detector_is_refused_before_an_image_is_read(tiny_model, tiny_clip_state, calibration):
    def refused(model, **options) -> str:
        with pytest.raises(CalibrationError) as error:
            model.predict("nowhere", calibration=calibration, **options)
        return str(error.value)

    same = released_cops(tiny_clip_state, None, auxiliary="visa", image_size=48)
    same.predict("nowhere", calibration=calibration)
    assert "draws fixed instead of image" in refused(same, draws="image")
    assert "category None instead of bolt" in refused(same, category="bolt")
    assert "image size 48 instead of 32" in refused(
        released_cops(tiny_clip_state, None, auxiliary="visa", image_size=32)
    )
    assert "settings" in refused(released_cops(tiny_clip_state, None, auxiliary="mvtec", image_size=48))
    other = released_cops(
        {name: value + 1e-3 for name, value in tiny_clip_state.items()}, None, auxiliary="visa", image_size=48
    )
    assert "fingerprint" in refused(other)
    assert "detector CoPS instead of PlainClip" in refused(PlainClip(same.backbone, 48))
    with torch.no_grad():
        next(same.released_parameters())[1].view(-1)[0] += 1e-6
    assert "weights" in refused(same)


def test_an_identity_is_that_of_the_settings_and_not_of_where_training_is(tiny_model):
    before = tiny_model.identity()
    tiny_model.train()
    assert tiny_model.identity() == before
    tiny_model.seed += 1
    assert tiny_model.identity() != before
    plain = PlainClip(tiny_model.backbone, 48, category_names={"bolt": "button"})
    assert plain.identity().weights == ""
    assert plain.identity() != PlainClip(tiny_model.backbone, 48).identity()


def test_a_stream_that_moves_is_warned_of_once_without_encoding_an_image_twice(
    tiny_model, calibration, capsys, monkeypatch
):
    encoded, encode = [], tiny_model.encode
    monkeypatch.setattr(tiny_model, "encode", lambda images: encoded.append(len(images)) or encode(images))
    list(tiny_model.predict(photos(50, seed=2), calibration=calibration, batch_size=10, workers=0))
    assert capsys.readouterr().err == ""
    list(tiny_model.predict(photos(80, seed=3, dark=0.3), calibration=calibration, batch_size=10, workers=0))
    said = capsys.readouterr().err
    assert said.count("have moved away from those of the calibration") == 1
    assert "of the 50 images from image 1 to image 50" in said
    assert sum(encoded) == 130


@pytest.mark.slow
def test_on_rendered_images_the_rates_of_images_and_of_regions_are_kept(tiny_model):
    images = [example("button", "normal", number).image for number in range(100)]
    seen = list(tiny_model.predict(images, workers=0, batch_size=10))
    rng, n, rates = np.random.default_rng(0), 39, []
    for _ in range(150):  # deployments: 39 images calibrate, the 61 others come later
        order = rng.permutation(len(seen))
        made = Calibration.of(tiny_model.identity(), [seen[at] for at in order[:n]])
        later = [seen[at] for at in order[n:]]
        rates.append(
            [
                np.mean([one.score > made.threshold for one in later]),
                np.mean([one.peak > made.map_threshold for one in later]),
            ]
        )
    error = 2.58 * np.std(rates, axis=0) / np.sqrt(len(rates))
    assert (np.mean(rates, axis=0) <= 0.05 + error).all()
    assert (np.mean(rates, axis=0) >= 0.04 - error).all(), "2 of 40, less where scores are equal"
