"""Renderers of images that look like medical ones. They teach nothing about medicine."""

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    FULL,
    TAU,
    Pose,
    Scene,
    X,
    Y,
    cells,
    chance,
    clouds,
    colour,
    lit,
    noise,
    paint,
    scan,
    soften,
    step,
    wave,
    whole,
)


def _vessels(
    rng: Generator, picture: np.ndarray, pose: Pose, root: tuple[float, float], count: int, tone: object
) -> np.ndarray:
    for number in range(count):
        angles = number * TAU / count + rng.uniform(-0.3, 0.3) + np.cumsum(rng.uniform(-0.4, 0.4, 6))
        path = np.concatenate(
            [[root], np.array(root) + 0.22 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1), 0)]
        )
        picture = paint(picture, tone, pose.stroke(path, rng.uniform(1, 2.4)))
    return picture


def mucosa(rng: Generator) -> Scene:
    tone = np.clip(colour(rng, ["pink", "red", "orange"]) * np.array([1.1, 0.8, 0.8], np.float32), 0, 1)
    cloud, depth = clouds(rng, 3), np.hypot(X - rng.uniform(20, 108), Y - rng.uniform(20, 108)) / 90
    folds = wave(depth * rng.uniform(2, 5) + cloud * 1.5)
    picture = lit(tone, 0.25 + 0.35 * folds + 0.5 * np.clip(depth, 0, 1) + 0.4 * cloud)
    picture = paint(picture, (0.6, 0.1, 0.12), 0.35 * (1 - np.abs(np.sin(clouds(rng, 5, 3) * 14))) ** 10)
    return Scene(paint(picture, (1, 1, 1), 0.6 * step(noise(rng, 20) - 1.02, 0.06)), FULL)


def retina(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 54, 60)
    tone = np.array([rng.uniform(0.65, 0.85), rng.uniform(0.25, 0.42), rng.uniform(0.08, 0.2)], np.float32)
    side = 1 if chance(rng, 0.5) else -1
    root = (side * rng.uniform(0.4, 0.55), rng.uniform(-0.15, 0.15))
    picture = _vessels(rng, lit(tone, 0.8 + 0.4 * clouds(rng, 3, 3)), pose, root, 8, tone * 0.5)
    picture = paint(picture, (0.98, 0.85, 0.5), soften(pose.ellipse(*root, 0.16), 1.5))
    return scan(picture, pose.ellipse(0, 0, 1))


def ultrasound(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 56, 62, 0.1)
    x, y = pose.local()
    radius, angle = np.hypot(x, y + 1), np.arctan2(x, y + 1)
    wide = rng.uniform(0.6, 0.9)
    fan = step(wide - np.abs(angle), 0.05) * step(radius - 0.25, 0.04) * step(1.95 - radius, 0.04)
    speckle = noise(rng, 70, 110) * (0.4 + 0.9 * clouds(rng, 4, 3))
    layers = 0.5 + 0.5 * wave(radius * rng.uniform(1.5, 4) + 0.6 * noise(rng, 4))
    return scan(lit((1, 1, 1), 0.75 * speckle * layers * rng.uniform(0.8, 1.3)), fan)


def histology(rng: Generator) -> Scene:
    """Stained tissue: nuclei in a pink ground."""
    tone = np.array([rng.uniform(0.8, 0.95), rng.uniform(0.55, 0.75), rng.uniform(0.72, 0.88)], np.float32)
    distance, _ = cells(rng, whole(rng, 70, 220))
    size = rng.uniform(2, 4.5)
    picture = lit(tone, 0.75 + 0.4 * clouds(rng, 8, 4))
    return Scene(
        paint(picture, (0.38, 0.22, 0.52), step(size + 2 * (noise(rng, 40) - 0.5) - distance, 1.5) * 0.85), FULL
    )


def teeth_scan(rng: Generator) -> Scene:
    """A row of bright crowns on a darker jaw."""
    pose, count = Pose.draw(rng, 56, 62, 0.12), whole(rng, 3, 5)
    gray = 0.25 + 0.25 * clouds(rng, 12, 3)
    for number in range(count):
        x = -0.9 + 1.8 * (number + 0.5) / count
        crown = np.maximum(
            pose.ellipse(x, -0.3, 0.75 / count, 0.3),
            pose.polygon(
                [[x - 0.6 / count, -0.2], [x + 0.6 / count, -0.2], [x + 0.2 / count, 0.7], [x - 0.2 / count, 0.7]]
            ),
        )
        core = pose.ellipse(x, 0.05, 0.14 / count, 0.4)
        gray = gray * (1 - soften(crown, 1.0)) + soften(crown, 1.0) * (0.78 - 0.25 * soften(core, 1.5))
    return scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.15)), pose.box(-1, -0.9, 1, 0.9))
