"""Painters of defects that no auxiliary or test image has: polyps, and an open grammar without names."""

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    FULL,
    SIDE,
    TAU,
    Number,
    Picture,
    Plane,
    Scene,
    X,
    Y,
    blend,
    blob,
    clouds,
    ellipse,
    lit,
    noise,
    paint,
    plain,
    polygon,
    regular,
    scaled,
    soften,
    stroke,
    wander,
    whole,
)
from cops_lightning.demo.defects import Painted, contrasting, gaussian, shifted, spot, tone_at


def polyp(rng: Generator, scene: Scene) -> Painted:
    (x, y), radius = spot(rng, scene.subject), rng.uniform(9, 20)
    reach = blob(rng, x, y, radius, rng.uniform(1, 1.5), rough=0.25)
    height = np.clip(1 - np.hypot(X - x + radius * 0.25, Y - y + radius * 0.25) / (1.6 * radius), 0, 1)
    tone, shadow = (
        np.clip(tone_at(scene.picture, x, y) * np.array([1.15, 0.85, 0.85], np.float32), 0, 1),
        soften(reach, 2.5),
    )
    picture = scaled(scene.picture, 1 - 0.3 * np.roll(shadow, (2, 2), (0, 1)))
    picture = blend(picture, np.clip(lit(tone, 0.58 + 0.6 * height + 0.15 * noise(rng, 24)), 0, 1), reach)
    return paint(picture, (1, 1, 1), ellipse(x - radius * 0.3, y - radius * 0.35, 1.8) * 0.8), np.maximum(reach, shadow)


def _any_region(rng: Generator, x: Number, y: Number) -> Plane:
    kind, size = whole(rng, 0, 6), rng.uniform(5, 22)
    if kind <= 1:
        return blob(rng, x, y, size, rng.uniform(1, 3), rough=rng.uniform(0.1, 1.6), soft=rng.uniform(0.03, 0.4))
    if kind == 2:
        return stroke(wander(rng, x, y, rng.uniform(15, 75), rng.uniform(0, 1.2), whole(rng, 3, 14)), rng.uniform(1, 6))
    if kind == 3:
        return polygon(regular(whole(rng, 3, 8), size, rng.uniform(0, TAU)) * [1, rng.uniform(0.3, 1)] + [x, y])
    if kind == 4:
        reach = np.zeros((SIDE, SIDE), np.float32)
        for _ in range(whole(rng, 2, 8)):
            at = (x + rng.uniform(-22, 22), y + rng.uniform(-22, 22))
            reach = np.maximum(reach, ellipse(*at, rng.uniform(1.5, 5), rng.uniform(1.5, 5), rng.uniform(0, TAU)))
        return reach
    if kind == 5:
        plane: Plane = np.clip(ellipse(x, y, size) - ellipse(x, y, size * rng.uniform(0.4, 0.85)), 0, 1)
        return plane
    near = gaussian(x, y, size)
    return np.clip((noise(rng, rng.uniform(8, 40)) - 0.5) * 4, 0, 1) * (near > 0.4)


def _any_change(rng: Generator, picture: Picture, x: Number, y: Number) -> Picture:
    kind, tone = whole(rng, 0, 9), tone_at(picture, x, y)
    if kind == 0:
        return plain(contrasting(rng, tone))
    if kind == 1:
        return lit(contrasting(rng, tone), 0.6 + 0.8 * clouds(rng, rng.uniform(6, 50), 3))
    if kind == 2:
        return picture * rng.uniform(0.2, 0.7)
    if kind == 3:
        return picture + (1 - picture) * rng.uniform(0.3, 0.7)
    if kind == 4:
        return picture[..., rng.permutation(3)] * rng.uniform(0.7, 1.3, 3).astype(np.float32)
    if kind == 5:
        return 1 - picture
    drawn: Picture
    if kind == 6:
        drawn = soften(picture, rng.uniform(2, 8)) + rng.uniform(-0.15, 0.15)
        return drawn
    if kind == 7:
        return np.roll(np.rot90(picture, whole(rng, 0, 3)), (whole(rng, 12, 100), whole(rng, 12, 100)), (0, 1))
    if kind == 8:
        angle, far = rng.uniform(0, TAU), rng.uniform(4, 14)
        return shifted(picture, FULL * (far * np.cos(angle)).item(), FULL * (far * np.sin(angle)).item())
    drawn = picture + rng.uniform(0.15, 0.5) * (rng.random((SIDE, SIDE, 1), dtype=np.float32) - 0.5) * 2
    return drawn


def any_defect(rng: Generator, scene: Scene) -> Painted:
    """A defect of the open grammar: any region, changed in any way."""
    x, y = spot(rng, scene.subject)
    reach = _any_region(rng, x, y)
    changed = np.clip(_any_change(rng, scene.picture, x, y), 0, 1)
    return blend(scene.picture, changed, reach * rng.uniform(0.5, 1)), reach
