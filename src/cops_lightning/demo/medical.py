"""Renderers of images that look like medical ones. They teach nothing about medicine."""

# ruff: noqa: D103  (a renderer is named for what it draws)

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    FULL,
    SIDE,
    TAU,
    Plane,
    Pose,
    Scene,
    X,
    Y,
    blend,
    cells,
    chance,
    clouds,
    colour,
    lit,
    noise,
    paint,
    plain,
    soften,
    step,
    wave,
    whole,
)


def _scan(picture: np.ndarray, subject: np.ndarray) -> Scene:
    """The subject on black."""
    return Scene(blend(plain((0.03, 0.03, 0.03)), picture, subject), subject)


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


# ---- pre-training ----------------------------------------------------------------------------------------------------


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
    return _scan(picture, pose.ellipse(0, 0, 1))


def ultrasound(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 56, 62, 0.1)
    x, y = pose.local()
    radius, angle = np.hypot(x, y + 1), np.arctan2(x, y + 1)
    wide = rng.uniform(0.6, 0.9)
    fan = step(wide - np.abs(angle), 0.05) * step(radius - 0.25, 0.04) * step(1.95 - radius, 0.04)
    speckle = noise(rng, 70, 110) * (0.4 + 0.9 * clouds(rng, 4, 3))
    layers = 0.5 + 0.5 * wave(radius * rng.uniform(1.5, 4) + 0.6 * noise(rng, 4))
    return _scan(lit((1, 1, 1), 0.75 * speckle * layers * rng.uniform(0.8, 1.3)), fan)


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
    return _scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.15)), pose.box(-1, -0.9, 1, 0.9))


# ---- auxiliary -------------------------------------------------------------------------------------------------------


def chest_xray(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 58, 63, 0.08)
    x, y = pose.local()
    lungs = soften(np.maximum(pose.ellipse(-0.42, 0.05, 0.3, 0.62), pose.ellipse(0.42, 0.05, 0.3, 0.62)), 2)
    ribs = wave((y + 0.35 * np.abs(x)) / rng.uniform(0.2, 0.28))
    gray = 0.57 - 0.42 * lungs + 0.14 * ribs * lungs + 0.2 * np.exp(-((x / 0.12) ** 2)) + 0.1 * clouds(rng, 4, 3)
    return _scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.15)), pose.box(-1, -1, 1, 1))


def _red_cell(x: float, y: float, size: float) -> Plane:
    """Coverage of a disc that is paler in the middle."""
    cover, reach = np.zeros((SIDE, SIDE), np.float32), int(1.1 * size) + 2
    near = (slice(max(0, int(y) - reach), int(y) + reach), slice(max(0, int(x) - reach), int(x) + reach))
    distance = np.hypot(X[near] - x, Y[near] - y) / size
    cover[near] = np.clip((1 - distance) / 0.15 + 0.5, 0, 1) * np.clip(0.45 + 0.5 * distance, 0, 1)
    return cover


def blood_smear(rng: Generator) -> Scene:
    """Red cells with a paler middle."""
    tone = np.array([rng.uniform(0.85, 0.96), rng.uniform(0.82, 0.92), rng.uniform(0.78, 0.92)], np.float32)
    red = np.array([rng.uniform(0.7, 0.85), rng.uniform(0.35, 0.5), rng.uniform(0.4, 0.52)], np.float32)
    picture, size = lit(tone, 0.95 + 0.08 * noise(rng, 10)), rng.uniform(6, 9)
    for row in range(int(SIDE / (2.4 * size)) + 1):
        for column in range(int(SIDE / (2.4 * size)) + 1):
            if chance(rng, 0.7):
                x = 2.4 * size * (column + 0.5 * (row % 2)) + rng.uniform(-2, 2)
                y = 2.4 * size * row + rng.uniform(-2, 2)
                picture = paint(picture, red, _red_cell(x, y, size))
    return Scene(picture, FULL)


# ---- test ------------------------------------------------------------------------------------------------------------


def bone_xray(rng: Generator) -> Scene:
    """Two bones that meet in a joint."""
    pose = Pose.draw(rng, 58, 63, 0.2)
    x, y = pose.local()
    wide, gap = rng.uniform(0.22, 0.34), rng.uniform(0.03, 0.06)
    flare = wide * (1 + 0.6 * np.exp(-((y / 0.25) ** 2)))
    bone = step(flare - np.abs(x), 0.05) * step(np.abs(y) - gap, 0.03)
    flesh = soften(step(0.75 + 0.1 * np.cos(2 * y) - np.abs(x), 0.1), 1.5)
    rim = np.exp(-(((flare - np.abs(x)) / 0.06) ** 2))
    gray = 0.06 + 0.22 * flesh + bone * (0.35 + 0.2 * rim + 0.12 * clouds(rng, 20, 3))
    return _scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.2)), pose.box(-1, -1, 1, 1))


def brain(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 50, 58, 0.25)
    x, y = pose.local()
    depth = np.hypot(x / 0.85, y)
    gray = 0.45 + 0.125 * np.sin(clouds(rng, 6) * 22)
    ventricles = np.maximum(pose.ellipse(-0.14, -0.05, 0.09, 0.26), pose.ellipse(0.14, -0.05, 0.09, 0.26))
    gray = gray * (1 - 0.7 * ventricles) * (1 - 0.5 * (np.abs(x) < 0.025))
    gray = gray * (1 - step(depth - 0.85, 0.03)) + 0.85 * step(depth - 0.9, 0.03)
    picture = lit((1, 1, 1), np.clip(gray + 0.05 * (noise(rng, 96) - 0.5), 0, 1) * rng.uniform(0.8, 1.2))
    return _scan(picture, pose.ellipse(0, 0, 0.85, 1))


def skin(rng: Generator) -> Scene:
    light = rng.uniform(0.5, 0.92)
    tone = light * np.array([1, rng.uniform(0.68, 0.82), rng.uniform(0.52, 0.72)], np.float32)
    distance, _ = cells(rng, whole(rng, 200, 500))
    pores = np.clip(distance / (2 * float(distance.mean())), 0, 1)
    return Scene(lit(tone, 0.76 + 0.12 * pores + 0.25 * clouds(rng, 3)), FULL)
