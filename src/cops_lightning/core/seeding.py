"""Named random generators: a draw depends on its name and seed alone, never on what was drawn before."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import xxhash
from jaxtyping import Float
from torch import Generator, Tensor

from cops_lightning.core.types import Images, Latents

FIXED = "fixed"  # the name under which every image gets the same draws; no name of content is as short


def named_generator(seed: int, *names: str | int) -> Generator:
    """A CPU generator whose state is a function of `seed` and `names` only."""
    text = "\x1f".join([str(seed), *map(str, names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def content_names(images: Images) -> tuple[str, ...]:
    """The name of each image: a hash of its preprocessed pixels, so of what the encoder sees.

    Copies of a file, files of other formats that decode to the same pixels, and arrays in memory have one name. What is
    drawn for an image is keyed by it, so that its score depends on no path.
    """
    arrays = images.detach().to("cpu", torch.float32).contiguous().numpy()
    return tuple(xxhash.xxh3_128_hexdigest(array.data) for array in arrays)


def image_latents(seed: int, names: Sequence[str], samples: int, width: int) -> Latents:
    """Standard normal draws per image, shape (b, samples, width), each a function of (seed, name of the image).

    A score that uses them depends neither on the other images of the batch, nor on their order, nor on the number of
    processes. The released program draws from the global generator instead.
    """
    return torch.stack([torch.randn(samples, width, generator=named_generator(seed, "latents", n)) for n in names])


def quasi_random_latents(seed: int, samples: int, width: int) -> Float[Tensor, "m d"]:
    """One set of draws from the standard normal for all images, a function of the seed.

    They are points of a scrambled Sobol sequence, which fill space more evenly than independent draws, through the
    inverse of the normal distribution (Owen, Scrambling Sobol' and Niederreiter-Xing points, 1998).
    """
    scramble = int(torch.randint(2**31, (), generator=named_generator(seed, "latents", FIXED)))
    sequence: Any = torch.quasirandom.SobolEngine
    points: Tensor = sequence(width, scramble=True, seed=scramble).draw(samples, dtype=torch.float64)
    latents: Tensor = torch.special.ndtri(points.clamp(1e-9, 1 - 1e-9)).float()
    return latents
