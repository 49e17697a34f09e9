"""What holds for every detector: a score belongs to pixels, whatever they are called and wherever they come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.seeding import content_names
from cops_lightning.data.dataset import preprocess
from cops_lightning.models.cops import CoPS

PHOTO = np.random.default_rng(3).integers(0, 256, (41, 57, 3), dtype=np.uint8)


@pytest.fixture
def model(tiny_model: CoPS) -> CoPS:
    """A model whose class samples matter: without training their spread hardly moves a score."""
    with torch.no_grad():
        tiny_model.classes.vae_decoder.net[2].weight.mul_(1000)
    return tiny_model


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(PHOTO).save(path)
    return path


def test_a_copy_a_lossless_format_and_an_array_have_one_score(model, tmp_path):
    files = [write(tmp_path / name) for name in ("a.png", "other name.png", "elsewhere/a.bmp", "b.tiff")]
    scores = {prediction.score for prediction in model.predict(files, draws="image")}
    array = model.score(preprocess(PHOTO, model.image_size)[None])
    opened = model.score(preprocess(Image.open(files[0]), model.image_size)[None])
    assert scores == {array.image.item()} == {opened.image.item()}


def test_a_detector_is_shown_in_one_line(model):
    assert repr(model) == "CoPS(the given CLIP, 48 px, cpu)"


def test_another_name_would_give_another_score(model):
    # So the test above can fail: draws do decide.
    images = preprocess(PHOTO, model.image_size)[None]
    assert model.score(images, names=["a"]).image != model.score(images, names=["b"]).image
    assert model.score(images, names=content_names(images)).image == model.score(images).image


def test_a_pixel_more_is_another_name(images):
    changed = images.clone()
    changed[1, 0, 0, 0] += 1e-6
    before, after = content_names(images), content_names(changed)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]
    assert content_names(images[2:3]) == before[2:3]
    assert {len(name) for name in before} == {32}


def test_predictions_come_in_the_order_of_the_files_with_maps_of_the_images_own_sizes(model, tmp_path):
    files = [write(tmp_path / f"{number}.png") for number in range(3)]
    Image.new("RGB", (30, 20), "red").save(files[1])
    found = list(model.predict(map(str, files), batch_size=2))
    assert [prediction.path for prediction in found] == files
    assert [prediction.map.shape for prediction in found] == [PHOTO.shape[:2], (20, 30), PHOTO.shape[:2]]
    assert found[0].score == pytest.approx(found[2].score, abs=1e-5)
    assert found[0].score != pytest.approx(found[1].score, abs=1e-5)


def test_predictions_are_made_as_they_are_asked_for_and_a_broken_file_is_named(model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = model.predict([write(tmp_path / "good.png"), tmp_path / "broken.png"])
    assert next(found).path.name == "good.png"
    with pytest.raises(DatasetError, match=r"broken\.png cannot be read"):
        next(found)
