"""One image from its key: (seed, category, index) decides scene, defect and light, each on a stream of its own."""

from dataclasses import dataclass
from hashlib import blake2b

import cv2
import numpy as np
from jaxtyping import Bool
from numpy.random import Generator, default_rng

from cops_lightning.demo.canvas import Picture, Scene, blend
from cops_lightning.demo.catalog import CategorySpec, DefectSpec
from cops_lightning.demo.imaging import Lighting, Pixels, expose

VISIBLE = 0.035  # smallest change of a channel that counts as seen, of full scale 1
AREA = (0.003, 0.30)  # smallest and largest share of the image a defect may cover
CONTRAST = 0.10  # smallest mean change over a defect
ATTEMPTS = 8

Mask = Bool[np.ndarray, "s s"]


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


def afflict(rng: Generator, scene: Scene, choices: tuple[DefectSpec, ...]) -> tuple[Picture, Mask, str]:
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


def normal_scene(rng: Generator, category: CategorySpec) -> Scene:
    """A normal scene with its picture in [0, 1]."""
    scene = category.render(rng)
    return Scene(np.clip(scene.picture, 0, 1).astype(np.float32), scene.subject.astype(np.float32))


@dataclass(frozen=True)
class Pair:
    """A normal image, the same image with a defect, and where that is."""

    normal: Pixels
    anomalous: Pixels
    mask: Mask
    defect: str


def render_pair(
    seed: int, category: CategorySpec, index: int, choices: tuple[DefectSpec, ...], lighting: Lighting
) -> Pair:
    """Both versions of one scene under the same light and with the same noise."""
    streams = Streams.of(seed, category.name, index)
    scene = normal_scene(streams.scene, category)
    picture, mask, defect = afflict(streams.defect, scene, choices)
    normal, anomalous = expose(streams.light, (scene.picture, picture), lighting)
    return Pair(normal, anomalous, mask, defect)
