"""The plain implementation that ours is measured against: the same numbers, so that both check each other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cops_lightning.benchmark.baseline import PlainProgram, encode_image, plain_metrics
from cops_lightning.metrics.pixels import pack_masks, pixel_scores
from cops_lightning.models.anomaly_map import Prototypes
from cops_lightning.models.cops import CoPS
from released import released_cops

GOLDEN = Path(__file__).parents[1] / "golden" / "small"


def golden(name: str) -> dict[str, torch.Tensor]:
    loaded = np.load(GOLDEN / f"{name}.npz")
    return {key: torch.from_numpy(v if v.dtype == np.int64 else v.astype(np.float32)) for key, v in loaded.items()}


@pytest.fixture(params=["visa", "mvtec"])
def model(request, tiny_clip_state) -> CoPS:
    return released_cops(tiny_clip_state, None, auxiliary=request.param, image_size=48)


def test_image_features_are_the_released_ones():
    size = json.loads((GOLDEN / "case.json").read_text())["image_size"]
    model = released_cops(golden("clip"), GOLDEN / "checkpoint.pth", "visa", size)
    features, expected = encode_image(model.backbone.clip.visual, golden("infer_in")["images"]), golden("infer_out")
    torch.testing.assert_close(features.image, expected["image_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(features.patches, expected["patch_features"], atol=1e-4, rtol=0)


def test_all_positions_of_every_prompt_give_the_text_features_of_the_short_cut(model):
    prototypes, biases = Prototypes(torch.randn(3, 6, 48), torch.randn(3, 6, 48)), torch.randn(3, 5, 48)
    plain, ours = PlainProgram(model).text_features(prototypes, biases), model.text_features(prototypes, biases)
    torch.testing.assert_close(plain, ours, atol=1e-5, rtol=0)


def test_losses_over_all_pixels_and_their_gradients_equal_those_on_the_patch_grid(model, images, masks, labels):
    noise = torch.randn(4, 48)
    plain = PlainProgram(model).losses(images, masks, labels, noise)
    ours = model.losses(model.encode(images), masks, labels, {"noise": noise})
    assert plain.keys() == ours.keys()
    for name in ours:
        torch.testing.assert_close(plain[name], ours[name], rtol=1e-4, atol=1e-6)
    parameters = [parameter for _, parameter in model.released_parameters()]
    for first, second in zip(
        *(torch.autograd.grad(losses["total"], parameters, allow_unused=True) for losses in (plain, ours)), strict=True
    ):
        assert (first is None) == (second is None)
        if first is not None:
            # Relative to the tensor: gradients of deep tokens are rounded to half precision, one way or the other.
            assert (first - second).norm() <= 1e-3 * second.norm() + 1e-7


def test_maps_smoothed_by_scipy_and_scores_equal_ours(model, images):
    latents = torch.randn(4, 10, 48)
    image_scores, maps = PlainProgram(model).score(images, latents)
    ours = model.score_drawn(model.encode(images), latents)
    torch.testing.assert_close(image_scores, ours.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps, ours.map, atol=1e-5, rtol=0)


def test_metrics_of_all_pixels_at_once_equal_the_streamed_ones(tiny_model, masks):
    patches = torch.rand(4, 36)
    truth = masks.bool().numpy()
    maps = list(tiny_model.expand(patches).numpy())
    expected = plain_metrics(maps, list(truth))
    got = pixel_scores(patches, pack_masks(truth), tiny_model.expand)
    assert got is not None
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_metrics_of_all_pixels_at_once_merge_equal_scores():
    # Two images of four pixels; every score is the same, so the curves are the diagonal: AUROC 1/2, AP the share of
    # anomalous pixels, F1 = 2 * 2 / (8 + 2), and AUPRO the area below the diagonal up to 0.3, over 0.3: 0.15.
    masks = [np.array([[True, False], [False, False]])] * 2
    constant = [np.full((2, 2), 0.5, np.float32)] * 2
    np.testing.assert_allclose(plain_metrics(constant, masks), (0.5, 0.25, 0.4, 0.15), atol=1e-12)
