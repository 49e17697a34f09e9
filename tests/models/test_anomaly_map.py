"""From patches to maps, against scipy and torch's own operations."""

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cops_lightning.models.anomaly_map import (
    Distances,
    Prototypes,
    SmoothUpsampler,
    gaussian_matrix,
    minmax,
    pool_neighbours,
    prototype_distances,
    spatial_weights,
)


@pytest.mark.parametrize(("grid", "patch"), [(37, 14), (5, 14), (3, 4)])
@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_a_map_is_the_upsampled_patches_under_scipys_gaussian_filter(grid, patch, upsampling):
    # The last case is smaller than the kernel, so that the reflection goes round more than once.
    scores = torch.rand(2, grid * grid)
    options = {"align_corners": False} if upsampling == "bilinear" else {}
    raw = F.interpolate(scores.double().view(2, 1, grid, grid), size=grid * patch, mode=upsampling, **options)[:, 0]
    expected = np.stack([scipy.ndimage.gaussian_filter(image, sigma=4) for image in raw.numpy()])
    got = SmoothUpsampler(grid, patch, upsampling)(scores)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@given(side=st.integers(1, 60), sigma=st.floats(0.5, 6))
@settings(deadline=None, max_examples=30)
def test_smoothing_keeps_a_constant_and_the_total(side, sigma):
    matrix = gaussian_matrix(side, sigma)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(side, dtype=torch.float64))
    torch.testing.assert_close(matrix.sum(dim=0), torch.ones(side, dtype=torch.float64))


def test_neighbourhoods_at_the_border_count_their_padding_zeros():
    ones = torch.ones(1, 9, 2)
    pooled = pool_neighbours(ones, 3).view(3, 3, 2)[..., 0]
    # A corner sees 4 of 9 patches, an edge 6 of 9, the centre all.
    torch.testing.assert_close(pooled, torch.tensor([[4.0, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9)


def test_distance_is_to_the_nearest_prototype_of_each_state():
    patch = torch.tensor([[[1.0, 0.0]]])
    normal = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    anomalous = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    distances = prototype_distances(patch, Prototypes(normal[None], anomalous[None]))
    # Normal: same direction, 0. Anomalous: the nearest is at a right angle, 1 - 0.
    torch.testing.assert_close(tuple(distances), (torch.tensor([[0.0]]), torch.tensor([[1.0]])))


def test_range_over_each_image_ignores_the_neighbours_and_range_over_the_batch_does_not():
    x = torch.tensor([[0.0, 1.0], [0.0, 4.0]])
    assert minmax(x, "image").tolist() == [[0, 1], [0, 1]]
    assert minmax(x, "batch").tolist() == [[0, 0.25], [0, 1]]


def test_a_constant_distance_map_becomes_zero():
    assert minmax(torch.full((2, 5), 0.3), "image").tolist() == [[0] * 5] * 2


def test_weights_rise_with_the_distance_to_normal_and_fall_with_that_to_anomalous():
    distances = Distances(torch.tensor([[0.0, 1.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    weights = spatial_weights(distances, alpha=0.25, over="image")
    torch.testing.assert_close(weights, torch.tensor([[0.75, 1.0, 0.0, 0.25]]))
