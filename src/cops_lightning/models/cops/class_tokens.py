"""Implicit class tokens (ICTS): a VAE of the global image feature whose decodings are added to the class tokens."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.core.types import Latents, Noise


class Encoding(NamedTuple):
    """Posterior of the latent given the global feature: mean and log variance per dimension."""

    mean: Float[Tensor, "b d"]
    log_var: Float[Tensor, "b d"]


class VaeEncoder(nn.Module):
    """Global feature to posterior, through one shared hidden layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mean = nn.Linear(width, width)
        self.log_var = nn.Linear(width, width)

    def forward(self, features: Float[Tensor, "b d"]) -> Encoding:
        """Mean and log variance, each of the feature's shape."""
        hidden = self.net(features)
        return Encoding(self.mean(hidden), self.log_var(hidden))


class VaeDecoder(nn.Module):
    """Latent to class bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, latents: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        """Class bias of each latent."""
        biases: Tensor = self.net(latents)
        return biases


class ClassTokens(nn.Module):
    """The VAE: encodes in training, samples the prior at inference."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vae_encoder = VaeEncoder(width)
        self.vae_decoder = VaeDecoder(width)

    def posterior_bias(self, features: Float[Tensor, "b d"], noise: Noise) -> tuple[Float[Tensor, "b 1 d"], Encoding]:
        """Training: one reparametrised sample per image, decoded, and the posterior it came from."""
        encoding = self.vae_encoder(features)
        latent = encoding.mean + torch.exp(encoding.log_var / 2) * noise
        return self.vae_decoder(latent)[:, None], encoding

    def prior_bias(self, latents: Latents) -> Float[Tensor, "b m d"]:
        """Inference: M given draws from the standard normal prior, decoded. They do not depend on the image."""
        biases: Tensor = self.vae_decoder(latents)
        return biases
