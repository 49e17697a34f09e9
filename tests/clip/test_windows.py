"""Windows of patches through the image tower."""

import pytest
import torch

from cops_lightning.clip import windows
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.clip.windows import encode_windows, square_windows


@pytest.fixture(scope="module")
def visual(tiny_clip_state):
    return clip_from_state(tiny_clip_state).clip.visual


def test_windows_of_two_on_a_grid_of_three_are_its_four_corners():
    #  0 1 2
    #  3 4 5
    #  6 7 8
    expected = [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert square_windows(3, 2).tolist() == expected


@pytest.mark.parametrize(("grid", "side"), [(3, 3), (6, 2), (37, 3)])
def test_there_is_a_window_at_every_place_where_it_fits(grid, side):
    found = square_windows(grid, side)
    assert found.shape == ((grid - side + 1) ** 2, side * side)
    assert set(found.flatten().tolist()) == set(range(grid * grid))


def test_a_window_beyond_the_grid_is_refused():
    with pytest.raises(ValueError, match="grid of 2 x 2 patches has no window of 3 x 3"):
        square_windows(2, 3)


def test_the_window_of_all_patches_is_clips_own_feature_of_the_image(visual):
    # At the tower's own size of 32 px, open_clip needs no resizing of positions.
    images = torch.randn(2, 3, 32, 32)
    whole = encode_windows(visual, images, torch.arange(16)[None])[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(whole, visual(images), atol=1e-5, rtol=1e-4)


def test_a_window_sees_its_own_patches_and_no_others(visual, images):
    found = square_windows(6, 2)
    before = encode_windows(visual, images, found)
    changed = images.clone()
    changed[:, :, :8, :8] += 1  # the first patch of 8 px
    after = encode_windows(visual, changed, found)
    moved = (after - before).abs().amax(dim=(0, 2)) > 1e-4
    assert moved.tolist() == [0 in window for window in found.tolist()]


def test_windows_in_several_passes_are_those_of_one(visual, images, monkeypatch):
    once = encode_windows(visual, images, square_windows(6, 3))
    monkeypatch.setattr(windows, "TOKENS", 100)  # two windows of ten tokens, for four images
    torch.testing.assert_close(encode_windows(visual, images, square_windows(6, 3)), once, atol=1e-5, rtol=0)
