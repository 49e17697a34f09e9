"""Losses on the patch grid equal their definitions over pixels."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cops_lightning.models.anomaly_map import Distances
from cops_lightning.models.cops.losses import (
    count_pixels,
    dice_loss,
    focal_loss,
    kl_loss,
    patch_loss,
    prototype_losses,
    reconstruction_loss,
)

PATCH = 4


def over_pixels(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Focal and both Dice losses as defined, on the upsampled probabilities."""
    grid = round(probabilities.shape[1] ** 0.5)
    maps = probabilities.transpose(1, 2).reshape(-1, 2, grid, grid)
    maps = F.interpolate(maps, size=grid * PATCH, mode="nearest")
    target = torch.stack([1 - masks, masks], dim=1).clamp(1e-5, 1 - 1e-5)
    pt = (target * maps).sum(dim=1) + 1e-5
    focal = (-((1 - pt) ** 2) * pt.log()).mean()

    def dice(probability, inside):
        overlap = (probability * inside).sum(dim=(1, 2))
        return 1 - ((2 * overlap + 1) / (probability.sum(dim=(1, 2)) + inside.sum(dim=(1, 2)) + 1)).mean()

    return focal + dice(maps[:, 1], masks) + dice(maps[:, 0], 1 - masks)


@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
@settings(deadline=None, max_examples=30)
def test_patch_losses_equal_the_pixel_losses_in_value_and_gradient(seed, density):
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(2, 5 * PATCH, 5 * PATCH, generator=generator) < density).double()
    logits = torch.randn(2, 25, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    by_patch = patch_loss(logits.softmax(dim=-1), count_pixels(masks, PATCH))
    by_pixel = over_pixels(logits.softmax(dim=-1), masks)
    torch.testing.assert_close(by_patch, by_pixel)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (by_patch, by_pixel)]
    torch.testing.assert_close(*gradients)


def test_certain_and_right_costs_almost_nothing():
    masks = torch.zeros(1, 8, 8)
    masks[0, :4] = 1
    counts = count_pixels(masks, PATCH)
    anomalous = torch.tensor([[1.0, 1, 0, 0]])
    probabilities = torch.stack([1 - anomalous, anomalous], dim=-1)
    assert focal_loss(probabilities, counts) < 1e-6
    assert dice_loss(anomalous, counts.anomalous, counts.pixels) == 0


def test_one_anomalous_pixel_marks_its_patch():
    masks = torch.zeros(1, 8, 8)
    masks[0, 3, 4] = 1
    assert count_pixels(masks, PATCH).touched.tolist() == [[False, True, False, False]]


def test_gather_takes_untouched_patches_and_scatter_touched_ones():
    masks = torch.zeros(1, 8, 8)
    masks[0, 0, 0] = 1
    distances = Distances(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), torch.tensor([[5.0, 7.0, 7.0, 7.0]]))
    gather, scatter = prototype_losses(distances, count_pixels(masks, PATCH))
    assert (gather, scatter) == (2.0, 5.0)


@pytest.mark.parametrize("anomalous", [False, True])
def test_of_no_patches_there_is_no_loss_and_no_gradient(anomalous):
    distances = Distances(torch.rand(1, 4, requires_grad=True), torch.rand(1, 4, requires_grad=True))
    masks = torch.full((1, 8, 8), float(anomalous))
    gather, scatter = prototype_losses(distances, count_pixels(masks, PATCH))
    absent, present = (gather, scatter) if anomalous else (scatter, gather)
    assert absent == 0
    assert not absent.requires_grad
    assert present.requires_grad


def test_kl_is_torchs_divergence_from_the_standard_normal():
    mean, log_var = torch.randn(5, 7), torch.randn(5, 7)
    posterior = torch.distributions.Normal(mean, (log_var / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).sum(dim=1).mean()
    torch.testing.assert_close(kl_loss(mean, log_var), expected)


def test_a_perfect_reconstruction_costs_nothing_when_matched_but_not_as_released():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert reconstruction_loss(features, features, "matched") == 0
    # All four pairs and two dimensions: the two mismatched pairs contribute 4 each, so 8 / 8.
    assert reconstruction_loss(features, features, "released") == pytest.approx(1.0)
