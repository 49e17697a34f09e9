"""How a scene becomes an image: light, colour cast, blur and noise, the same whether or not there is a defect."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator

from cops_lightning.demo.canvas import SIDE, TAU, Picture, X, Y, chance, lit

Pixels = UInt8[np.ndarray, "s s 3"]
Span = tuple[float, float]


@dataclass(frozen=True)
class Lighting:
    """Ranges from which each image draws its own conditions.

    `gradient` is the relative fall of light from the centre to the rim, `gain` the exposure, `gamma` the tone curve,
    `cast` the largest relative change of a channel, `vignette` the darkening of the corners, `blur` in pixels (below
    0.3: none) and `grain` the standard deviation of the noise, of full scale 1.
    """

    gradient: Span
    gain: Span
    gamma: Span
    cast: float
    vignette: Span
    blur: Span
    grain: Span


STUDIO = Lighting((0.0, 0.30), (0.75, 1.15), (1.0, 1.0), 0.03, (0.0, 0.0), (0.0, 0.7), (0.0, 0.03))
WORKSHOP = Lighting((0.1, 0.45), (0.65, 1.25), (0.8, 1.25), 0.12, (0.0, 0.3), (0.0, 0.8), (0.005, 0.04))
FIELD = Lighting((0.2, 0.60), (0.50, 1.30), (0.65, 1.5), 0.25, (0.1, 0.5), (0.2, 1.0), (0.01, 0.06))


def expose(rng: Generator, pictures: Sequence[Picture], lighting: Lighting) -> list[Pixels]:
    """What a camera would see: one draw of conditions from `lighting`, noise included, for all pictures alike."""
    angle, slope = rng.uniform(0, TAU), rng.uniform(*lighting.gradient) / (SIDE / 2)
    light = 1 + (slope * np.cos(angle)).item() * (X - SIDE / 2) + (slope * np.sin(angle)).item() * (Y - SIDE / 2)
    vignette = rng.uniform(*lighting.vignette)
    if vignette > 0:
        light = light * (1 - vignette * ((X - SIDE / 2) ** 2 + (Y - SIDE / 2) ** 2) / (SIDE * SIDE / 2))
    light = lit(rng.uniform(*lighting.gain) * (1 + rng.uniform(-lighting.cast, lighting.cast, 3)), light)
    gamma, blur, sigma = rng.uniform(*lighting.gamma), chance(rng, 0.5), rng.uniform(*lighting.blur)
    noise = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * rng.uniform(*lighting.grain)
    images = []
    for picture in pictures:
        image = picture * light
        np.clip(image, 0, 1, out=image)
        if gamma != 1:
            image = cv2.pow(image, gamma)
        if blur and sigma > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        image += noise
        np.clip(image, 0, 1, out=image)
        image *= 255
        image += 0.5
        images.append(image.astype(np.uint8))
    return images
