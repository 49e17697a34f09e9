from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from cops_lightning.report.figures import Example, choose_examples, save_contact_sheet, save_heat_map


def example(**changes) -> Example:
    rng = np.random.default_rng(0)
    mask = np.zeros((32, 32), dtype=bool)
    mask[:8, 20:] = True
    values = {
        "name": "visa/candle/Data/Images/Anomaly/000.JPG",
        "image": rng.integers(0, 255, (60, 40, 3), dtype=np.uint8),
        "mask": mask,
        "map": rng.random((32, 32)) * 0.5,
        "score": 0.87,
        "anomalous": True,
    }
    return Example(**(values | changes))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def heat_map(path: Path, example: Example, **scale: float) -> np.ndarray:
    save_heat_map(path, example, **scale)
    return pixels(path)


@pytest.mark.slow
def test_figures_are_the_same_bytes_when_drawn_again(tmp_path):
    for name in ("a", "b"):
        save_heat_map(tmp_path / name / "map.png", example())
        save_contact_sheet(tmp_path / name / "sheet.png", [example()], "visa")
    for figure in ("map.png", "sheet.png"):
        assert (tmp_path / "a" / figure).read_bytes() == (tmp_path / "b" / figure).read_bytes()


def test_equal_scores_have_equal_colours_whatever_else_is_in_the_map(tmp_path):
    dark = np.full((4, 4), 0.2)
    bright = dark.copy()
    bright[0, 0] = 0.9
    blank = np.zeros((40, 40, 3), dtype=np.uint8)
    one, other = (heat_map(tmp_path / "map.png", example(image=blank, map=m)) for m in (dark, bright))
    assert one.shape == other.shape
    changed = np.abs(one - other).max(axis=2) > 0
    assert 0 < changed.mean() < 0.1  # the corner with the bright patch, in one of three panels


@pytest.mark.slow
def test_the_given_scale_decides_the_colours(tmp_path):
    one, other = (heat_map(tmp_path / "map.png", example(), vmax=vmax) for vmax in (1.0, 0.4))
    assert (one != other).any()


@pytest.mark.slow
def test_an_image_without_a_mask_says_so_instead_of_showing_an_empty_one(tmp_path):
    empty = heat_map(tmp_path / "map.png", example(mask=np.zeros((32, 32), dtype=bool)))
    none = heat_map(tmp_path / "map.png", example(mask=None))
    height, width = none.shape[:2]
    panel = slice(height // 3, height // 2), slice(int(0.4 * width), int(0.55 * width))
    assert (empty[panel] == 0).mean() > 0.9
    assert (none[panel] > 200).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("size", [(20, 400), (400, 20), (1, 1)])
@pytest.mark.parametrize("mask", [None, np.zeros((3, 3), dtype=bool), np.ones((3, 3), dtype=bool)])
def test_any_size_of_image_and_any_mask_can_be_drawn(tmp_path, size, mask):
    odd = example(image=np.zeros((*size, 3), dtype=np.uint8), mask=mask)
    assert heat_map(tmp_path / "map.png", odd).shape[1] > 800
    save_contact_sheet(tmp_path / "sheet.png", [odd, example(anomalous=False)], "odd sizes")


@pytest.mark.slow
def test_a_sheet_grows_by_rows_and_keeps_its_width(tmp_path):
    sizes = []
    for n in (2, 3, 4):
        save_contact_sheet(tmp_path / "sheet.png", [example()] * n, "visa", columns=2)
        sizes.append(pixels(tmp_path / "sheet.png").shape[:2])
    assert sizes[0][1] == sizes[1][1] == sizes[2][1]
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]


def test_names_that_look_like_formulas_are_printed_as_they_are(tmp_path):
    save_heat_map(tmp_path / "map.png", example(name="part_$x_{$.png" * 20))
    save_contact_sheet(tmp_path / "sheet.png", [example(name="$\\frac$")], "$\\frac$")


def test_a_scale_without_extent_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs vmin < vmax, got 1\.0 and 1\.0"):
        save_heat_map(tmp_path / "map.png", example(), vmin=1.0, vmax=1.0)


def test_a_sheet_without_examples_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one example, got none for 'visa'"):
        save_contact_sheet(tmp_path / "sheet.png", [], "visa")


def test_examples_are_spread_over_the_images_normal_ones_first():
    anomalous = [False] * 10 + [True] * 20
    chosen = choose_examples(anomalous, n_normal=2, n_anomalous=4)
    assert chosen == [2, 7, 12, 17, 22, 27]


def test_all_images_are_chosen_where_there_are_few():
    assert choose_examples([True, False, True]) == [1, 0, 2]
    assert choose_examples([True, True]) == [0, 1]
    assert choose_examples([]) == []


@pytest.mark.slow
def test_drawing_leaves_the_global_state_of_matplotlib_alone(tmp_path):
    save_heat_map(tmp_path / "map.png", example())
    save_contact_sheet(tmp_path / "sheet.png", [example()], "visa")
    assert pyplot.get_fignums() == []
