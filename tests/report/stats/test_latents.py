import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cops_lightning.report.stats.latents import gaussian_kl, project, vae_health


def healthy(rng, n=100, d=8):
    """A VAE whose posterior follows the image in 3 of 8 dimensions, and decodes them."""
    features = rng.normal(size=(n, d))
    means = np.zeros((n, d))
    means[:, :3] = features[:, :3]
    log_vars = np.zeros((n, d))
    log_vars[:, :3] = np.log(0.1)
    return {"parts": features}, {"parts": means}, means, log_vars, rng.normal(size=(50, d))


def test_kl_is_that_of_torch_distributions():
    mean, variance = np.array([0.3, -2.0]), np.array([0.5, 1.7])
    expected = kl_divergence(Normal(torch.tensor(mean), torch.tensor(variance).sqrt()), Normal(0.0, 1.0))
    assert gaussian_kl(mean, variance) == pytest.approx(expected.numpy())


def test_the_dimensions_that_follow_the_image_are_active():
    health = vae_health(*healthy(np.random.default_rng(0)))
    assert health.active_units == 3
    np.testing.assert_allclose(health.kl[3:], 0)
    assert (health.kl[:3] > 0.5).all()
    # Three of eight equal variances are decoded: five eighths of the error of the mean remain.
    assert health.reconstruction["parts"] == pytest.approx(5 / 8, abs=0.1)


def test_a_posterior_that_ignores_the_image_leaves_draws_that_still_vary():
    features, decoded, means, log_vars, tokens = healthy(np.random.default_rng(0))
    health = vae_health(features, decoded, 0 * means, 0 * log_vars, tokens)
    assert health.active_units == health.kl.sum() == health.gap.sum() == 0
    assert health.token_spread == pytest.approx(1, abs=0.05)  # tokens around 0 vary by all of their length


def test_a_decoder_that_ignores_the_latent_gives_one_token_whatever_the_posterior_does():
    features, decoded, means, log_vars, _ = healthy(np.random.default_rng(0))
    tokens = np.ones((50, 8)) + 1e-4 * np.random.default_rng(1).normal(size=(50, 8))
    health = vae_health(features, decoded, means, log_vars, tokens)
    assert health.token_spread < 0.001
    assert health.active_units == 3


def test_the_spread_of_text_features_is_their_distance_from_their_mean_over_draws():
    # Two draws at right angles lie half a diagonal from their mean: the deviation (n - 1) is the diagonal / sqrt(2).
    texts = {"parts": np.array([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 0.0]], [[1.0, 0.0]]]])}
    health = vae_health(*healthy(np.random.default_rng(0)), texts)
    assert health.text_spread == {"parts": pytest.approx((1 + 0) / 2)}


def test_a_matching_aggregate_posterior_leaves_no_gap_and_a_shifted_one_does():
    rng = np.random.default_rng(2)
    _, _, _, _, tokens = healthy(rng)
    means, log_vars = rng.normal(0, 0.6, (5000, 8)), np.full((5000, 8), np.log(0.64))
    features = {"parts": means}
    assert vae_health(features, features, means, log_vars, tokens).gap == pytest.approx(np.zeros(8), abs=2e-3)
    assert vae_health(features, features, means + 1, log_vars, tokens).gap == pytest.approx(np.full(8, 0.5), abs=0.05)


def test_the_spread_of_scores_is_that_of_an_image_over_draws():
    scores = {"parts": np.array([[0.1, 0.3], [0.5, 0.5]])}
    health = vae_health(*healthy(np.random.default_rng(0)), scores=scores)
    assert health.score_spread == {"parts": pytest.approx(np.std([0.1, 0.3], ddof=1) / 2)}


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="got 1 and 50"):
        vae_health({}, {}, np.zeros((1, 8)), np.zeros((1, 8)), np.zeros((50, 8)))


def test_a_projection_keeps_distances_within_a_plane():
    rng = np.random.default_rng(3)
    plane = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6))
    flat, explained = project(plane)
    assert explained.sum() == pytest.approx(1)
    assert np.linalg.norm(flat[0] - flat[1]) == pytest.approx(np.linalg.norm(plane[0] - plane[1]))
    with pytest.raises(ValueError, match="needs 2 points"):
        project(np.zeros((1, 3)))
