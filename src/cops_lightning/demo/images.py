"""One image from its key: (seed, category, role, number) decides scene, defect and light, each by draws of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy.random import Generator, default_rng

from cops_lightning.core.errors import DatasetError
from cops_lightning.demo.canvas import SIDE, TAU, Picture, Scene, X, Y, blend, chance, lit
from cops_lightning.demo.catalog import CATEGORIES, CategorySpec, DefectSpec, Difficulty, defects_of

VERSION = 1  # goes up whenever any image of any key changes
GOOD = "good"
VISIBLE = 0.035  # smallest change of a channel that counts as seen, of full scale 1
AREA = (0.003, 0.30)  # smallest and largest share of the image a defect may cover
CONTRAST = 0.10  # smallest mean change over a defect
ATTEMPTS = 8

Pixels = UInt8[np.ndarray, "s s 3"]
Mask = Bool[np.ndarray, "s s"]
Span = tuple[float, float]
Role = Literal["train", "normal", "anomalous"]


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


# Auxiliary images have the light of easy ones.
LIGHTING: dict[Difficulty, Lighting] = {
    "easy": Lighting((0.0, 0.30), (0.75, 1.15), (1.0, 1.0), 0.03, (0.0, 0.0), (0.0, 0.7), (0.0, 0.03)),
    "medium": Lighting((0.1, 0.45), (0.65, 1.25), (0.8, 1.25), 0.12, (0.0, 0.3), (0.0, 0.8), (0.005, 0.04)),
    "hard": Lighting((0.2, 0.60), (0.50, 1.30), (0.65, 1.5), 0.25, (0.1, 0.5), (0.2, 1.0), (0.01, 0.06)),
}


@dataclass(frozen=True)
class Example:
    """One image with its truth. `defect` is "good" for a normal image, whose mask is empty. `key` names it."""

    image: Pixels
    mask: Mask
    anomalous: bool
    defect: str
    category: str
    key: str


@dataclass(frozen=True)
class Streams:
    """Independent generators of one image."""

    scene: Generator
    defect: Generator
    light: Generator

    @classmethod
    def of(cls, seed: int, category: str, index: int) -> "Streams":
        """The generators of (seed, category, index), the same in any order and any process."""
        digest = blake2b(f"{seed}\x1f{category}\x1f{index}".encode(), digest_size=24).digest()
        return cls(*(default_rng(int.from_bytes(digest[i : i + 8], "big")) for i in (0, 8, 16)))


def example(category: str, role: Role, number: int, seed: int = 0) -> Example:
    """Image `number` of a category: a function of the arguments, whatever else is rendered, where and when.

    `train` and `normal` images are both normal, of separate streams. Raises DatasetError for an unknown category.
    """
    spec = CATEGORIES.get(category)
    if spec is None:
        raise DatasetError(
            f"There is no procedural category {category!r}. Expected one of the {len(CATEGORIES)} in "
            "cops_lightning.demo.catalog.CATEGORIES."
        )
    streams = Streams.of(seed, f"{category}/{role}", number)
    scene = normal_scene(streams.scene, spec)
    picture, mask, defect = scene.picture, np.zeros((SIDE, SIDE), bool), GOOD
    if role == "anomalous":
        picture, mask, defect = afflict(streams.defect, scene, defects_of(spec))
    (image,) = expose(streams.light, (picture,), LIGHTING[spec.difficulty or "easy"])
    return Example(image, mask, role == "anomalous", defect, category, f"procedural/{category}/{role}/{seed}/{number}")


def normal_scene(rng: Generator, category: CategorySpec) -> Scene:
    """A normal scene with its picture in [0, 1]."""
    scene = category.render(rng)
    return Scene(np.clip(scene.picture, 0, 1).astype(np.float32), scene.subject.astype(np.float32))


def afflict(rng: Generator, scene: Scene, choices: Sequence[DefectSpec]) -> tuple[Picture, Mask, str]:
    """The scene with a defect, where it is, and its name.

    Outside the mask the picture is bit for bit the normal one; inside, at least one channel changed visibly (single
    pixels that a 3 x 3 closing fills aside). Draws again, at most ATTEMPTS times, while the mark is too small, too
    large or too faint.
    """
    kernel = np.ones((3, 3), np.uint8)
    for _ in range(ATTEMPTS):
        defect = choices[int(rng.integers(len(choices)))]
        picture, reach = defect.paint(rng, scene)
        if defect.confined:
            picture = blend(scene.picture, picture, np.clip(cv2.dilate(scene.subject, kernel), 0, 1))
        picture = np.clip(picture, 0, 1).astype(np.float32)
        change = cv2.absdiff(picture, scene.picture)
        change = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])
        seen = ((change > VISIBLE) & (reach > 0.05)).astype(np.uint8)
        mask = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, kernel).astype(bool)
        area = float(mask.mean())
        if AREA[0] < area < AREA[1] and float(change[mask].mean()) > CONTRAST:
            break
    return np.where(mask[..., None], picture, scene.picture), mask, defect.name


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
        image = np.clip(picture * light, 0, 1)
        if gamma != 1:
            image = cv2.pow(image, gamma)
        if blur and sigma > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        images.append((np.clip(image + noise, 0, 1) * 255 + 0.5).astype(np.uint8))
    return images
