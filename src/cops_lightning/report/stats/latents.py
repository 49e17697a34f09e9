"""What the VAE of the class tokens does: how far the posterior uses the image, and how much draws from the prior vary.

These are two questions. A posterior that ignores the image (posterior collapse) may still be sampled to tokens that
vary; a decoder that ignores the latent (mode collapse) gives one token whatever is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# A latent dimension is active if its posterior mean varies over images by more than this (arXiv 1509.00519).
ACTIVE = 0.01


@dataclass(frozen=True)
class VaeHealth:
    """Figures of one trained VAE over a sample of images; d is the latent width.

    `reconstruction` per dataset: squared error of decoding the posterior mean over the variance of the features; 0 is
    perfect, 1 no better than their mean. `kl` nats per dimension, mean over images. `gap` nats per dimension between
    the aggregate posterior (all images, as a normal distribution) and the prior N(0, 1). `token_spread`: standard
    deviation of class tokens over prior draws, over their root mean square length. `text_spread` and `score_spread`:
    standard deviation of an image's text features (of length 1) and of its score over draws, mean over images of a
    dataset; empty where these were not drawn repeatedly.
    """

    n: int
    reconstruction: dict[str, float]
    kl: Float[np.ndarray, " d"]
    active_units: int
    gap: Float[np.ndarray, " d"]
    token_spread: float
    text_spread: dict[str, float]
    score_spread: dict[str, float]


def vae_health(
    features: Mapping[str, Float[np.ndarray, "_ d"]],
    decoded: Mapping[str, Float[np.ndarray, "_ d"]],
    means: Float[np.ndarray, "n d"],
    log_vars: Float[np.ndarray, "n d"],
    tokens: Float[np.ndarray, "draws d"],
    texts: Mapping[str, Float[np.ndarray, "_ repeats states joint"]] | None = None,
    scores: Mapping[str, Float[np.ndarray, "_ repeats"]] | None = None,
) -> VaeHealth:
    """Health from arrays: per dataset the features and the decodings of their posterior means; for all images together
    the posterior; class tokens of prior draws; and per dataset the text features and scores of images over repeated
    draws.

    Raises ValueError for fewer than 2 images or draws.
    """
    if len(means) < 2 or len(tokens) < 2:
        raise ValueError(f"VAE health needs 2 images and 2 draws, got {len(means)} and {len(tokens)}.")
    reconstruction = {}
    for name, real in features.items():
        variance = np.sum((real - real.mean(axis=0)) ** 2)
        error = np.sum((real - decoded[name]) ** 2)
        reconstruction[name] = float(error / variance) if variance > 0 else float("nan")
    variances = np.exp(log_vars)
    kl = np.mean(gaussian_kl(means, variances), axis=0)
    # Law of total variance: the aggregate posterior spreads by its means, and around them.
    gap = gaussian_kl(means.mean(axis=0), means.var(axis=0) + variances.mean(axis=0))
    length = float(np.sqrt(np.mean(np.sum(tokens**2, axis=1))))
    spread = float(np.sqrt(np.sum(tokens.var(axis=0, ddof=1))))
    return VaeHealth(
        n=len(means),
        reconstruction=reconstruction,
        kl=kl,
        active_units=int((means.var(axis=0, ddof=1) > ACTIVE).sum()),
        gap=gap,
        token_spread=spread / length if length > 0 else 0.0,
        text_spread={
            name: float(np.sqrt(drawn.var(axis=1, ddof=1).sum(axis=-1)).mean()) for name, drawn in (texts or {}).items()
        },
        score_spread={name: float(drawn.std(axis=1, ddof=1).mean()) for name, drawn in (scores or {}).items()},
    )


def gaussian_kl(mean: Float[np.ndarray, "*n"], variance: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """KL divergence of N(mean, variance) from N(0, 1) per element, in nats."""
    return np.asarray((mean**2 + variance - 1 - np.log(variance)) / 2)


def project(means: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
    """Points in the plane of their two principal components, and the share of variance that each explains, in [0, 1].

    The origin stays the origin, so that the prior N(0, 1) of a latent is N(0, 1) in the plane too. Raises ValueError
    for fewer than 2 points or dimensions.
    """
    if min(means.shape) < 2:
        raise ValueError(f"A projection needs 2 points of 2 dimensions, got the shape {means.shape}.")
    _, s, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    total = np.sum(s**2)
    return means @ axes[:2].T, s[:2] ** 2 / total if total > 0 else np.zeros(2)
