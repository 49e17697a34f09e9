"""Painters of defects: each changes a normal scene somewhere and says how far its paint reaches.

What is marked as anomalous is decided in `images`: the pixels inside that reach that a viewer sees changed.
"""

# ruff: noqa: D103  (a painter is named for what it does)

import cv2
import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    SIDE,
    TAU,
    Colour,
    Number,
    Picture,
    Plane,
    Scene,
    X,
    Y,
    blend,
    blob,
    chance,
    choose,
    clouds,
    colour,
    ellipse,
    lit,
    noise,
    paint,
    polygon,
    regular,
    scaled,
    soften,
    stroke,
    wander,
    whole,
)

Painted = tuple[Picture, Plane]


# ---- where and in what colour ----------------------------------------------------------------------------------------


def spot(rng: Generator, subject: Plane) -> tuple[float, float]:
    """A point on the subject, (x, y)."""
    for _ in range(20):
        y, x = whole(rng, 8, SIDE - 9), whole(rng, 8, SIDE - 9)
        if subject[y, x] > 0.6:
            return float(x), float(y)
    inside = np.argwhere(subject > 0.6)
    if len(inside) == 0:
        return SIDE / 2, SIDE / 2
    y, x = inside[whole(rng, 0, len(inside) - 1)]
    return float(x), float(y)


def tone_at(picture: Picture, x: Number, y: Number) -> Colour:
    """The colour around a point."""
    px, py = int(np.clip(x, 2, SIDE - 3)), int(np.clip(y, 2, SIDE - 3))
    tone: Colour = picture[py - 2 : py + 3, px - 2 : px + 3].reshape(-1, 3).mean(0)
    return tone


def contrasting(rng: Generator, tone: Colour) -> Colour:
    """Much darker, much lighter, or any colour."""
    kind = rng.random()
    if kind < 0.4:
        return np.clip(tone * rng.uniform(0.1, 0.5), 0, 1)
    if kind < 0.7:
        return np.clip(tone + (1 - tone) * rng.uniform(0.5, 0.9), 0, 1)
    return colour(rng)


def gaussian(x: Number, y: Number, sigma: Number) -> Plane:
    return np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * sigma * sigma))


def shifted(picture: Picture, dx: Plane, dy: Plane) -> Picture:
    """The picture read dx, dy pixels away."""
    return cv2.remap(picture, X + dx, Y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


# ---- industrial ------------------------------------------------------------------------------------------------------


def scratch(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    reach = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(whole(rng, 1, 3)):
        line = wander(rng, x + rng.uniform(-10, 10), y + rng.uniform(-10, 10), rng.uniform(22, 60), 0.08, 5)
        reach = np.maximum(reach, stroke(line, rng.uniform(1, 2.4)))
    tone, change = tone_at(scene.picture, x, y), rng.uniform(0.3, 0.6)
    tone = np.clip(tone + (change if tone.mean() < 0.55 else -change), 0, 1)
    return paint(scene.picture, tone, reach * rng.uniform(0.7, 1)), reach


def crack(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    path = wander(rng, x, y, rng.uniform(30, 70), 0.9, 12)
    reach = stroke(path, rng.uniform(1, 2.6))
    for _ in range(whole(rng, 0, 2)):
        fork = path[whole(rng, 2, 9)]
        reach = np.maximum(reach, stroke(wander(rng, float(fork[0]), float(fork[1]), rng.uniform(10, 25), 0.8, 6), 1))
    tone = tone_at(scene.picture, x, y)
    return paint(scene.picture, tone * 0.2 if tone.mean() > 0.25 else np.minimum(tone + 0.5, 1), reach * 0.95), reach


def hole(rng: Generator, scene: Scene) -> Painted:
    (x, y), radius = spot(rng, scene.subject), rng.uniform(4, 14)
    stretch = rng.uniform(1, 1.6)
    reach = blob(rng, x, y, radius, stretch, rough=0.5)
    tone = tone_at(scene.picture, x, y)
    picture = paint(scene.picture, np.clip(tone * 1.3, 0, 1), soften(reach, 2) * 0.5)
    depth = rng.uniform(0.0, 0.12) if tone.mean() > 0.3 else rng.uniform(0.6, 0.95)
    return blend(picture, lit((depth,) * 3, 0.8 + 0.4 * noise(rng, 16)), reach), np.maximum(reach, soften(reach, 2))


def stain(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    reach = blob(rng, x, y, rng.uniform(8, 24), rough=1.3, soft=0.3)
    tone = contrasting(rng, tone_at(scene.picture, x, y))
    return paint(scene.picture, tone, reach * rng.uniform(0.35, 0.7)), reach


def contamination(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    tone, reach = contrasting(rng, tone_at(scene.picture, x, y)), np.zeros((SIDE, SIDE), np.float32)
    for _ in range(whole(rng, 1, 6)):
        dot = blob(rng, x + rng.uniform(-18, 18), y + rng.uniform(-18, 18), rng.uniform(2, 6), rough=0.4)
        reach = np.maximum(reach, dot)
    return blend(scene.picture, lit(tone, 0.8 + 0.4 * noise(rng, 64)), reach), reach


def missing_part(rng: Generator, scene: Scene) -> Painted:
    """A piece of the rim gives way to the background; of a texture, a patch of the layer below shows."""
    x, y = spot(rng, scene.subject)
    outside = scene.picture[scene.subject < 0.05]
    if len(outside) < 50:
        reach = blob(rng, x, y, rng.uniform(8, 20), rough=0.7, soft=0.06)
        below = np.clip(scene.picture.reshape(-1, 3).mean(0) * rng.uniform(0.5, 1.3), 0, 1)
        return blend(scene.picture, lit(below, 0.9 + 0.2 * noise(rng, 32)), reach), reach
    rim = np.argwhere((scene.subject > 0.6) & (cv2.erode(scene.subject, np.ones((7, 7), np.uint8)) < 0.5))
    if len(rim):
        y, x = (float(value) for value in rim[whole(rng, 0, len(rim) - 1)])
    reach = blob(rng, x, y, rng.uniform(9, 20), rough=0.6, soft=0.05) * scene.subject
    below = outside[whole(rng, 0, len(outside) - 1)]
    return blend(scene.picture, lit(below, 0.95 + 0.1 * noise(rng, 64)), reach), reach


def cut(rng: Generator, scene: Scene) -> Painted:
    (x, y), angle = spot(rng, scene.subject), rng.uniform(0, TAU)
    along = np.array([np.cos(angle), np.sin(angle)])
    across, start = np.array([-along[1], along[0]]), np.array([x, y])
    length, width = rng.uniform(16, 42), rng.uniform(2, 4.5)
    end, middle = start + along * length, start + along * length / 2
    slit = polygon([start, middle + across * width, end, middle - across * width])
    lip, tone = stroke([start + across * width * 0.7, end + across * width * 0.7], 1.2), tone_at(scene.picture, x, y)
    picture = paint(scene.picture, np.minimum(tone * 1.4 + 0.1, 1), lip * 0.7)
    return paint(picture, tone * 0.15 if tone.mean() > 0.2 else tone + 0.5, slit), np.maximum(slit, lip)


def deformation(rng: Generator, scene: Scene) -> Painted:
    """Shifted, twisted or pinched."""
    (x, y), radius = spot(rng, scene.subject), rng.uniform(12, 26)
    reach, kind = gaussian(x, y, radius * 0.55), whole(rng, 0, 2)
    if kind == 0:
        angle, far = rng.uniform(0, TAU), rng.uniform(7, 16)
        return shifted(scene.picture, reach * (far * np.cos(angle)).item(), reach * (far * np.sin(angle)).item()), reach
    dx, dy = X - x, Y - y
    if kind == 1:
        turn = reach * (rng.uniform(1, 2.5) * choose(rng, [-1, 1]))
        c, s = np.cos(turn), np.sin(turn)
        return shifted(scene.picture, c * dx - s * dy - dx, s * dx + c * dy - dy), reach
    squeeze = reach * choose(rng, [rng.uniform(0.8, 1.6), -rng.uniform(0.5, 0.85)])
    return shifted(scene.picture, dx * squeeze, dy * squeeze), reach


def discoloration(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    reach = blob(rng, x, y, rng.uniform(10, 28), rough=0.8, soft=rng.uniform(0.05, 0.4))
    gain = rng.uniform(0.5, 1.6, 3).astype(np.float32)
    if float(np.abs(gain - 1).mean()) < 0.25:
        gain = gain * choose(rng, [0.55, 1.6])
    return blend(scene.picture, np.clip(scene.picture * gain + rng.uniform(-0.08, 0.08), 0, 1), reach), reach


def wear(rng: Generator, scene: Scene) -> Painted:
    """Rubbed until the pattern fades."""
    x, y = spot(rng, scene.subject)
    reach = blob(rng, x, y, rng.uniform(10, 26), rough=1.0, soft=0.25)
    flat = soften(scene.picture, rng.uniform(3, 8))
    pale = np.clip(flat + rng.uniform(-0.15, 0.25), 0, 1)
    return blend(scene.picture, scaled(pale, 0.9 + 0.2 * noise(rng, 60)), reach * rng.uniform(0.7, 1)), reach


def foreign_object(rng: Generator, scene: Scene) -> Painted:
    """Something that lies on top: a chip, a bar, a ring or a star."""
    (x, y), size, turn = spot(rng, scene.subject), rng.uniform(5, 15), rng.uniform(0, TAU)
    kind, flat = whole(rng, 0, 3), rng.uniform(0.25, 1)
    if kind == 0:
        reach = polygon(regular(whole(rng, 3, 6), size, turn) + np.array([x, y]))
    elif kind == 1:
        reach = ellipse(x, y, size * 1.3, max(2.0, size * flat * 0.6), turn)
    elif kind == 2:
        reach = ellipse(x, y, size) - ellipse(x, y, size * rng.uniform(0.5, 0.75))
    else:
        corners = whole(rng, 4, 7)
        star = np.stack([regular(corners, size, turn), regular(corners, size * 0.5, turn + np.pi / corners)], 1)
        reach = polygon(star.reshape(-1, 2) + np.array([x, y]))
    tone, shadow = contrasting(rng, tone_at(scene.picture, x, y)), soften(np.roll(reach, (2, 2), (0, 1)), 1.5)
    picture = scaled(scene.picture, 1 - 0.35 * shadow)
    return blend(picture, lit(tone, 0.8 + 0.4 * noise(rng, 24)), reach), np.maximum(reach, shadow)


def fold(rng: Generator, scene: Scene) -> Painted:
    """A crease: light on one side, dark on the other, the pattern shifted along it."""
    (x, y), angle = spot(rng, scene.subject), rng.uniform(0, TAU)
    length, width = rng.uniform(14, 32), rng.uniform(2.5, 6)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    u, v = c * (X - x) + s * (Y - y), c * (Y - y) - s * (X - x)
    v = v + rng.uniform(-4, 4) * (u / length) ** 2
    reach = np.exp(-((u / length) ** 4) - (v / width) ** 2)
    slope = reach * v / width
    moved = shifted(scene.picture, -s * 5 * reach, c * 5 * reach)
    return np.clip(scaled(moved, 1 + rng.uniform(0.8, 1.6) * choose(rng, [-1, 1]) * slope), 0, 1), reach


def misplacement(rng: Generator, scene: Scene) -> Painted:
    """A piece of the same picture in the wrong place, turned or mirrored."""
    x, y = spot(rng, scene.subject)
    half = (whole(rng, 6, 18), whole(rng, 6, 18))
    x0, y0 = whole(rng, half[0], SIDE - half[0]), whole(rng, half[1], SIDE - half[1])
    turned = np.ascontiguousarray(scene.picture[::-1, :: choose(rng, [-1, 1])])
    moved = np.roll(turned, (int(y) - y0, int(x) - x0), (0, 1))
    if chance(rng, 0.5):
        reach = polygon(np.array([x, y]) + np.array(half) * [[-1, -1], [1, -1], [1, 1], [-1, 1]])
    else:
        reach = blob(rng, x, y, float(max(half)), rough=0.5, soft=0.05)
    return blend(scene.picture, moved, reach), reach


# ---- held out: in test images only -----------------------------------------------------------------------------------


def thread(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    bends = rng.uniform(-0.35, 0.35) + np.cumsum(rng.uniform(-0.12, 0.12, 24))
    angles = rng.uniform(0, TAU) + np.cumsum(bends + rng.uniform(-0.1, 0.1, 24))
    path = np.array([x, y]) + 2.6 * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1), 0)
    line = stroke(path, rng.uniform(1.2, 2.6))
    shadow = np.roll(line, (2, 2), (0, 1))
    picture = scaled(scene.picture, 1 - 0.35 * shadow)
    return paint(picture, contrasting(rng, tone_at(scene.picture, x, y)), line), np.maximum(line, shadow)


def dent(rng: Generator, scene: Scene) -> Painted:
    (x, y), radius, angle = spot(rng, scene.subject), rng.uniform(7, 18), rng.uniform(0, TAU)
    dx, dy = (X - x) / radius, (Y - y) / radius
    reach = np.exp(-(dx * dx + dy * dy))
    slope = (float(np.cos(angle)) * dx + float(np.sin(angle)) * dy) * reach
    return np.clip(scaled(scene.picture, 1 + rng.uniform(1.3, 2.2) * slope), 0, 1), reach


# ---- medical ---------------------------------------------------------------------------------------------------------


def lesion(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, cv2.erode(scene.subject, np.ones((15, 15), np.uint8)))
    reach, tone = blob(rng, x, y, rng.uniform(6, 16), rough=0.7, soft=0.25), tone_at(scene.picture, x, y)
    tone = np.clip(tone + rng.uniform(0.25, 0.5), 0, 1) if tone.mean() < 0.6 else tone * 0.4
    return blend(scene.picture, lit(tone, 0.85 + 0.3 * noise(rng, 24)), reach * 0.9), reach


def mole(rng: Generator, scene: Scene) -> Painted:
    x, y = spot(rng, scene.subject)
    reach = blob(rng, x, y, rng.uniform(7, 20), rng.uniform(1, 1.6), rough=0.9, soft=0.2)
    tone = np.array([rng.uniform(0.15, 0.4), rng.uniform(0.08, 0.22), rng.uniform(0.05, 0.18)], np.float32)
    return blend(scene.picture, lit(tone, 0.7 + 0.6 * clouds(rng, 10, 2)), reach * 0.92), reach
