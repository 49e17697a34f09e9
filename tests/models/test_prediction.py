"""What a prediction says of an image, in the image's own pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from cops_lightning.data.readers.pictures import Picture
from cops_lightning.models.anomaly_map import SmoothUpsampler
from cops_lightning.models.prediction import Prediction, Rule

GRID, PATCH = 6, 8


def predicted(patches: np.ndarray, size=(96, 48), **rule) -> Prediction:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    given = torch.from_numpy(patches.astype(np.float32).ravel())
    return Prediction(
        Picture("image 1", pixels=pixels), 0.7, given, SmoothUpsampler(GRID, PATCH, "nearest"), Rule(**rule), size
    )


def test_the_map_lies_on_the_image_pixel_for_pixel():
    patches = np.zeros((GRID, GRID))
    patches[1, 4] = 1  # its middle is at 12 px down and 36 px right of 48 px
    found = predicted(patches, size=(96, 48)).map
    assert found.shape == (48, 96)
    center = ndimage.center_of_mass(found)
    assert center == pytest.approx((11.5, 71.5), abs=0.3), "pixel centres, and twice as wide as high"
    assert np.allclose(found[:, ::-1], predicted(patches[:, ::-1], size=(96, 48)).map, atol=1e-6)


def test_regions_are_connected_parts_of_the_map_above_the_threshold():
    patches = np.zeros((GRID, GRID))
    patches[0, 0], patches[4:, 4:] = 0.8, 1.0
    prediction = predicted(patches, map_threshold=0.3)
    expected, count = ndimage.label(prediction.map > 0.3, structure=np.ones((3, 3)))
    assert count == len(prediction.regions) == 2
    assert [region.peak for region in prediction.regions] == sorted(
        (ndimage.maximum(prediction.map, expected, [1, 2])).tolist(), reverse=True
    )
    for region in prediction.regions:
        inside = prediction.mask[region.top : region.bottom, region.left : region.right]
        assert inside.sum() == region.area
        edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        assert all(edge.any() for edge in edges), "a tight box"
    assert predicted(np.zeros((GRID, GRID))).regions == ()


def test_a_verdict_needs_a_threshold_and_a_p_value_a_calibration():
    patches = np.zeros((GRID, GRID))
    assert predicted(patches).label is None
    assert predicted(patches, threshold=0.69).label == "anomalous"
    assert predicted(patches, threshold=0.7).label == "normal", "at the threshold is not above it"
    assert predicted(patches, p_value=lambda score: 1 - score).p_value == pytest.approx(0.3)


def test_frames_are_drawn_along_the_boxes_of_regions_and_nowhere_else():
    patches = np.zeros((GRID, GRID))
    patches[2, 2] = 1.0
    prediction = predicted(patches, map_threshold=0.3)
    (region,) = prediction.regions
    plain, framed = (np.asarray(prediction.heat_map(frames=frames)) for frames in (False, True))
    on = np.zeros(framed.shape[:2], dtype=bool)
    on[region.top : region.bottom, region.left : region.right] = True
    on[region.top + 1 : region.bottom - 1, region.left + 1 : region.right - 1] = False
    assert (framed[on] == (0, 255, 255)).all()
    assert (framed[~on] == plain[~on]).all()


@pytest.mark.parametrize("name", ["map.png", "map.jpg", "no suffix"])
def test_a_heat_map_has_the_size_of_the_image_and_leaves_normal_places_as_they_are(tmp_path, name):
    patches = np.zeros((GRID, GRID))
    patches[:, 4:] = 1.0
    prediction = predicted(patches)
    prediction.save_heatmap(tmp_path / "deep" / name)
    with Image.open(tmp_path / "deep" / name) as written:
        drawn = np.asarray(written.convert("RGB")).astype(int)
    assert drawn.shape == (48, 96, 3)
    assert drawn[:, :16].max() <= 4, "black stays black where the map is 0"
    assert drawn[:, -10:].max() > 100
    assert [file.name for file in Path(tmp_path / "deep").iterdir()] == [name]
