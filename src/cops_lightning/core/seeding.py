"""Named random generators: a draw depends on its name and seed alone, never on what was drawn before."""

import hashlib

import torch
from torch import Generator

from cops_lightning.core.types import Latents


def named_generator(seed: int, *names: str | int) -> Generator:
    """A CPU generator whose state is a function of `seed` and `names` only."""
    text = "\x1f".join([str(seed), *map(str, names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def image_latents(seed: int, keys: tuple[str, ...], samples: int, width: int) -> Latents:
    """Standard normal draws per image, shape (b, samples, width), each a function of (seed, key of the image).

    A score that uses them depends neither on the other images of the batch, nor on their order, nor on the number of
    processes. The released program draws from the global generator instead.
    """
    return torch.stack([torch.randn(samples, width, generator=named_generator(seed, "latents", k)) for k in keys])
