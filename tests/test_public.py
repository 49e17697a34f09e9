"""What `import cops_lightning as cl` gives."""

import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

import cops_lightning as cl
from cops_lightning.core.errors import DatasetError

HEAVY = ("torch", "lightning", "open_clip", "hydra", "pandas", "matplotlib", "numpy")


def test_nothing_heavy_is_imported_before_it_is_used():
    code = f"import sys, cops_lightning as cl; dir(cl); print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize("name", cl.__all__)
def test_every_public_name_is_there_and_documented(name):
    found = getattr(cl, name)
    assert name in dir(cl)
    assert isinstance(found, str) or found.__doc__


def test_the_thirteen_datasets_are_public_and_thirteen():
    from cops_lightning.data.catalog import BENCHMARK
    from cops_lightning.data.datamodules import PUBLISHED

    public = [getattr(cl, name) for name in cl.__all__]
    assert len(BENCHMARK) == 13
    assert all(PUBLISHED[spec.name] in public for spec in map(_spec, BENCHMARK))


def _spec(name):
    from cops_lightning.data.catalog import find_spec

    return find_spec(getattr(name, "name", name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Visa'"):
        cl.Visa  # noqa: B018


def test_an_image_is_preprocessed_alike_from_a_file_from_pillow_and_from_an_array(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.bmp")
    found = [
        cl.preprocess(image, 48)
        for image in (pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "b.bmp"))
    ]
    assert found[0].shape == (3, 48, 48)
    assert all(torch.equal(one, found[0]) for one in found)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nothing checks the type
    with pytest.raises(DatasetError, match=r"array of float64 \(2, 2, 3\); expected uint8"):
        cl.preprocess(np.zeros((2, 2, 3)), 48)


def test_what_is_preprocessed_in_python_is_scored_as_its_file(tiny_model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (found,) = tiny_model.predict(tmp_path / "a.png", draws="image")
    assert tiny_model.score(cl.preprocess(pixels, 48)[None]).image.tolist() == [found.score]
