"""Distributions over prompts: a Gaussian base, then planar flow steps."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

GUARD = 1e-5


class Latents(NamedTuple):
    """Samples of a flow: the base Gaussian's, what the steps make of them, and what a divergence needs of both."""

    z: Float[Tensor, "*n d"]
    log_q: Float[Tensor, "*n"]
    log_det: Float[Tensor, "*n"]

    @property
    def log_prior(self) -> Float[Tensor, "*n"]:
        """Logarithm of the standard normal's density, up to a constant."""
        return -0.5 * self.z.square().sum(dim=-1)


class MLP(nn.Module):
    """Three linear layers with Softplus between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        layers = (nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width))
        self.module = nn.Sequential(layers[0], nn.Softplus(), layers[1], nn.Softplus(), layers[2])

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """As wide as what goes in."""
        found: Tensor = self.module(x)
        return found


class Encoder(nn.Module):
    """Mean of the base Gaussian, and twice the logarithm of its variance, whatever the released name says."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.weight_mean, self.weight_log_variance = MLP(width, hidden), MLP(width, hidden)


class Decoder(nn.Module):
    """Never used and never trained; the released format has it."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.weight_mean = MLP(width, hidden)


class ImageFlow(nn.Module):
    """The flow of contexts: its steps are linear functions of the image's global feature."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.amor_u, self.amor_w = nn.Linear(width, steps * width), nn.Linear(width, steps * width)
        self.amor_b = nn.Linear(width, steps)
        self.p_mu = nn.Sequential(nn.Linear(width, width))  # never used

    def forward(self, image: Float[Tensor, "b d"], encoder: Encoder, noise: Float[Tensor, "b r d"]) -> Latents:
        """Samples for every image."""
        steps = self.amor_b.out_features
        u, w = (layer(image).view(len(image), 1, steps, -1) for layer in (self.amor_u, self.amor_w))
        return flow(image[:, None], encoder, noise, u, w, self.amor_b(image)[:, None])


class StateFlow(nn.Module):
    """The flow of a state: the same for all images."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.amor_u = nn.Parameter(torch.zeros(1, steps, width, 1))
        self.amor_w = nn.Parameter(torch.zeros(1, steps, 1, width))
        self.amor_b = nn.Parameter(torch.zeros(1, steps, 1, 1))
        self.state = nn.Parameter(torch.zeros(1, width))
        self.p_mu = nn.Sequential(nn.Linear(width, width))  # never used

    def forward(self, encoder: Encoder, noise: Float[Tensor, "r d"]) -> Latents:
        """Samples for the run."""
        return flow(self.state, encoder, noise, self.amor_u[..., 0], self.amor_w[:, :, 0], self.amor_b[..., 0, 0])


def flow(
    seen: Float[Tensor, "*n d"],
    encoder: Encoder,
    noise: Float[Tensor, "*m d"],
    u: Float[Tensor, "*n k d"],
    w: Float[Tensor, "*n k d"],
    b: Float[Tensor, "*n k"],
) -> Latents:
    """Steps z + u tanh(w z + b), which need not be invertible, from the Gaussian that the encoder makes of `seen`."""
    double = encoder.weight_log_variance(seen)
    drawn = torch.exp(double / 4) * noise
    z = encoder.weight_mean(seen) + drawn
    log_q = -0.5 * (double / 2 + drawn.square() * torch.exp(-double / 2)).sum(dim=-1)
    slopes, log_det = (w * u).sum(dim=-1), torch.zeros_like(log_q)
    for step in range(u.shape[-2]):
        bend = torch.tanh((w[..., step, :] * z).sum(dim=-1) + b[..., step])
        log_det = log_det + ((1 + slopes[..., step] * (1 - bend.square())).abs() + GUARD).log()
        z = z + u[..., step, :] * bend[..., None]
    return Latents(z, log_q, log_det)
