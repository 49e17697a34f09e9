"""From files to pixels: formats, colours and bit depths as they occur in the published sets."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.images import read_image, read_mask
from data.conftest import write_image

RAMP = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


def test_colours_are_kept(tmp_path: Path):
    assert np.array_equal(read_image(write_image(tmp_path / "x.png", RAMP)), RAMP)


def test_a_grey_image_gets_three_equal_channels(tmp_path: Path):
    grey = RAMP[..., 0]
    assert np.array_equal(read_image(write_image(tmp_path / "x.png", grey)), np.stack([grey] * 3, -1))


def test_alpha_is_dropped_as_the_released_program_does(tmp_path: Path):
    transparent = np.dstack([RAMP, np.zeros((4, 4), np.uint8)])
    assert np.array_equal(read_image(write_image(tmp_path / "x.png", transparent)), RAMP)


@pytest.mark.parametrize("transparency", [None, 0, b"\0\xff\x80"])
def test_a_palette_is_looked_up_without_a_warning(tmp_path: Path, transparency: int | bytes | None):
    image = Image.fromarray(RAMP).quantize(16)
    image.save(tmp_path / "x.png", **({} if transparency is None else {"transparency": transparency}))
    assert np.array_equal(read_image(tmp_path / "x.png"), image.convert("RGB"))


def test_a_png_named_jpg_is_read_by_its_content(tmp_path: Path):
    path = write_image(tmp_path / "x.png", RAMP).rename(tmp_path / "x.jpg")
    assert np.array_equal(read_image(path), RAMP)


def test_sixteen_bits_are_scaled_to_eight_rather_than_clipped(tmp_path: Path):
    deep = np.array([[0, 255], [256, 65535]], np.uint16)
    path = write_image(tmp_path / "x.png", deep)
    assert np.asarray(read_image(path))[..., 0].tolist() == [[0, 0], [1, 255]]


def test_a_tiff_that_pillow_refuses_keeps_its_colours(tmp_path: Path):
    # As in CVC-ClinicDB: three samples per pixel, tagged as greyscale.
    path = tmp_path / "1.tif"
    tifffile.imwrite(path, RAMP, photometric="minisblack", planarconfig="contig")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(path)
    assert np.array_equal(read_image(path), RAMP)


def test_a_tiff_that_pillow_refuses_may_not_unfold_without_bounds_either(tmp_path: Path, monkeypatch):
    tifffile.imwrite(
        tmp_path / "1.tif", np.zeros((40, 40, 3), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 50)
    with pytest.raises(DatasetError, match=r"1\.tif has more than .* megapixels, .* set the environment variable"):
        read_image(tmp_path / "1.tif")


def test_a_tiff_with_planes_of_colour_is_turned_round(tmp_path: Path):
    planes = np.moveaxis(np.repeat(RAMP, 2, axis=1), 2, 0)
    tifffile.imwrite(tmp_path / "x.tif", planes, photometric="minisblack", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "x.tif"), np.repeat(RAMP, 2, axis=1))


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.float32), np.full((4, 4), -1, np.int32)])
def test_values_that_have_no_place_in_eight_bits_are_refused(tmp_path: Path, pixels: np.ndarray):
    path = write_image(tmp_path / "x.tif", pixels)
    with pytest.raises(DatasetError, match=r"x\.tif holds . values from .* Expected 8-bit colours or 16-bit grey"):
        read_image(path)


def test_a_stack_of_images_is_refused(tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "x.tif", np.zeros((5, 4, 4, 3), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(DatasetError, match=r"x\.tif is a TIFF of shape \(5, 4, 4, 3\)"):
        read_image(tmp_path / "x.tif")


def test_a_mask_keeps_its_values_whatever_its_mode(tmp_path: Path):
    classes = np.array([[0, 1], [2, 255]], np.uint8)
    assert np.array_equal(read_mask(write_image(tmp_path / "l.png", classes)), classes)
    assert np.array_equal(read_mask(write_image(tmp_path / "rgb.png", np.stack([classes] * 3, -1))), classes)
    one_bit = write_image(tmp_path / "one.png", classes > 1)
    assert np.asarray(read_mask(one_bit)).tolist() == [[0, 0], [255, 255]]
