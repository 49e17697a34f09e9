"""The VAE of the global feature."""

import torch

from cops_lightning.models.cops.class_tokens import ClassTokens


def test_without_noise_the_posterior_sample_is_the_mean():
    classes, features = ClassTokens(12), torch.randn(3, 12)
    bias, posterior = classes.posterior_bias(features, torch.zeros(3, 12))
    torch.testing.assert_close(bias[:, 0], classes.vae_decoder(posterior.mean))


def test_noise_is_scaled_by_the_posteriors_standard_deviation():
    classes, features, noise = ClassTokens(12), torch.randn(3, 12), torch.randn(3, 12)
    bias, posterior = classes.posterior_bias(features, noise)
    expected = classes.vae_decoder(posterior.mean + posterior.log_var.exp().sqrt() * noise)
    torch.testing.assert_close(bias[:, 0], expected)
