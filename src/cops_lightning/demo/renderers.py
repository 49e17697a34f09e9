"""Renderers of the categories' normal images: each draws one scene, never twice the same.

Textures fill the canvas; objects lie on a background; what looks medical teaches nothing about medicine.
"""

# ruff: noqa: D103  (a renderer is named for what it draws)

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    FULL,
    METALS,
    SIDE,
    Plane,
    Pose,
    Scene,
    X,
    Y,
    axes,
    blend,
    cells,
    chance,
    choose,
    clouds,
    colour,
    colour_unlike,
    contour,
    finish,
    gloss,
    ground,
    lit,
    noise,
    paint,
    plain,
    regular,
    relative_distance,
    relief,
    scaled,
    scan,
    shades,
    soften,
    step,
    surface,
    wave,
    whole,
    zigzag,
)

# ---- auxiliary -------------------------------------------------------------------------------------------------------


def brick_wall(rng: Generator) -> Scene:
    tone, (u, v) = colour(rng, ["red", "brown", "orange", "gray", "beige"]), axes(rng, 0.1)
    width = rng.uniform(26, 44)
    height = width * rng.uniform(0.35, 0.5)
    row = np.floor(v / height)
    along = u / width + 0.5 * (row % 2)
    rim = np.minimum((1 - zigzag(along)) * width, (1 - zigzag(v / height)) * height) / 2
    bricks = lit(tone, 0.57 + 0.3 * shades(rng, np.floor(along) * 7 + row * 13, 31) + 0.35 * clouds(rng, 16, 3))
    mortar = lit(colour(rng, ["gray", "white", "beige"]), 0.85 + 0.3 * noise(rng, 64))
    return surface(blend(mortar, bricks, step(rim - rng.uniform(0.8, 1.6), 1.0)))


def diamond_plate(rng: Generator) -> Scene:
    tone, (u, v), pitch = colour(rng, ["silver", "gray", "black", "red", "green"]), axes(rng), rng.uniform(16, 28)
    turned = (np.floor(u / pitch) + np.floor(v / pitch)) % 2 > 0
    a, b = u / pitch - np.floor(u / pitch) - 0.5, v / pitch - np.floor(v / pitch) - 0.5
    long, short = np.where(turned, a, b), np.where(turned, b, a)
    height = 1 - np.hypot(long / 0.42, short / 0.13)
    rim = np.abs(height) < 0.25
    return surface(lit(tone, 0.62 + 0.45 * np.clip(height, 0, 1) - 0.25 * rim + 0.15 * noise(rng, 64)))


def wicker(rng: Generator) -> Scene:
    """Over and under: two sets of bands that cross."""
    tone = colour(rng, ["beige", "brown", "orange", "gray", "white"])
    (u, v), pitch = axes(rng, warp=4), rng.uniform(8, 18)
    over = (np.floor(u / pitch) + np.floor(v / pitch)) % 2
    a, b = np.abs(np.sin(np.pi * u / pitch)), np.abs(np.sin(np.pi * v / pitch))
    bands = over * a**0.6 * (0.5 + 0.5 * b) + (1 - over) * b**0.6 * (0.5 + 0.5 * a)
    other = np.clip(tone * rng.uniform(0.6, 1.25), 0, 1)
    return surface(scaled(blend(plain(tone), plain(other), over), 0.3 + 0.7 * bands + 0.15 * (noise(rng, 80) - 0.5)))


def coin(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["silver", "yellow", "orange", "brown"]), Pose.draw(rng, 44, 56)
    picture = lit(tone, 0.85 + 0.2 * noise(rng, 60))
    ring = pose.ellipse(0, 0, 0.92) - pose.ellipse(0, 0, 0.85)
    picture = paint(picture, tone * 0.6, ring)
    lobes, depth = whole(rng, 3, 9), rng.uniform(0.1, 0.35)
    motif = pose.polygon(0.55 * contour(lambda a: 1 - depth + depth * np.cos(lobes * a)))
    picture = paint(picture, np.clip(tone * 1.25, 0, 1), motif * 0.7)
    return finish(rng, below, relief(rng, picture, motif, 0.5), pose.ellipse(0, 0, 1))


PIPS = {
    3: ((-0.5, -0.5), (0, 0), (0.5, 0.5)),
    4: ((-0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (0.5, -0.5)),
    5: ((-0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (0.5, -0.5), (0, 0)),
    6: ((-0.5, -0.6), (-0.5, 0), (-0.5, 0.6), (0.5, -0.6), (0.5, 0), (0.5, 0.6)),
}


def dice(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0), Pose.draw(rng, 30, 42)
    picture = lit(tone, 0.95 + 0.08 * noise(rng, 32))
    ink = np.full(3, 0.95 if tone.mean() < 0.5 else 0.08)
    for x, y in PIPS[whole(rng, 3, 6)]:
        picture = paint(picture, ink, pose.ellipse(x, y, 0.16))
    return finish(rng, below, picture, pose.box(-1, -1, 1, 1))


def leaf(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["green", "yellow", "red", "brown"]), Pose.draw(rng, 48, 58)
    angle, width = np.linspace(0, np.pi, 30), rng.uniform(0.35, 0.55)
    upper = np.stack([-np.cos(angle), width * np.sin(angle) ** 1.2], 1)
    subject = pose.polygon(np.concatenate([upper, -upper]))
    picture = lit(tone, 0.75 + 0.4 * clouds(rng, 5))
    picture = paint(picture, np.minimum(tone * 1.6, 1), pose.stroke([[-1, 0], [1, 0]], 2))
    for x in np.linspace(-0.7, 0.6, 7):
        for side in (-1, 1):
            picture = paint(picture, np.minimum(tone * 1.4, 1), pose.stroke([[x, 0], [x + 0.3, side * width]], 1) * 0.7)
    return finish(rng, below, picture, subject)


def comb(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, teeth = colour_unlike(rng, tone0), Pose.draw(rng, 52, 60), whole(rng, 9, 18)
    subject = pose.box(-1, -0.5, 1, -0.2)
    for x in np.linspace(-0.95, 0.95, teeth):
        subject = np.maximum(subject, pose.box(float(x) - 0.5 / teeth, -0.25, float(x) + 0.5 / teeth, 0.5))
    return finish(rng, below, lit(tone, 0.85 + 0.25 * noise(rng, 30)), subject)


def socket(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["white", "beige", "gray", "black"]), Pose.draw(rng, 42, 50, 0.1)
    picture = paint(lit(tone, 0.95 + 0.08 * noise(rng, 20)), tone * 0.75, pose.ellipse(0, 0, 0.75))
    picture = paint(picture, tone * 0.9, pose.ellipse(0, 0, 0.68))
    for x in (-0.3, 0.3):
        picture = paint(picture, (0.06, 0.06, 0.06), pose.ellipse(x, 0, 0.11))
    for y in (-0.62, 0.62):
        picture = paint(picture, (0.7, 0.7, 0.7), pose.box(-0.08, y - 0.06, 0.08, y + 0.06))
    return finish(rng, below, picture, pose.box(-1, -1, 1, 1))


def chest_xray(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 58, 63, 0.08)
    x, y = pose.local()
    lungs = soften(np.maximum(pose.ellipse(-0.42, 0.05, 0.3, 0.62), pose.ellipse(0.42, 0.05, 0.3, 0.62)), 2)
    ribs = wave((y + 0.35 * np.abs(x)) / rng.uniform(0.2, 0.28))
    gray = 0.57 - 0.42 * lungs + 0.14 * ribs * lungs + 0.2 * np.exp(-((x / 0.12) ** 2)) + 0.1 * clouds(rng, 4, 3)
    return scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.15)), pose.box(-1, -1, 1, 1))


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


def ceramic_tile(rng: Generator) -> Scene:
    tone, (u, v) = colour(rng), axes(rng, 0.15 if chance(rng, 0.7) else 3)
    pitch, gap = rng.uniform(20, 45), rng.uniform(0.06, 0.16)
    rim = np.minimum(1 - zigzag(u / pitch), 1 - zigzag(v / pitch))
    shade = shades(rng, np.floor(u / pitch) * 7 + np.floor(v / pitch) * 13, 31)
    tiles = lit(tone, 0.85 + 0.15 * shade + 0.1 * clouds(rng, 16, 2))
    return surface(blend(plain(colour(rng, ["gray", "white", "black", "beige"])), tiles, step(rim - gap, 0.05)))


def perforated_plate(rng: Generator) -> Scene:
    tone = colour(rng, ["silver", "gray", "black", "white", "blue", "brown"])
    (u, v), pitch = axes(rng), rng.uniform(12, 26)
    along = u / pitch + 0.5 * whole(rng, 0, 1) * (np.floor(v / pitch) % 2)
    across = v / pitch
    radius = np.hypot(along - np.floor(along) - 0.5, across - np.floor(across) - 0.5)
    below = colour(rng, ["black", "gray", "white"])
    if abs(float(below.mean() - tone.mean())) < 0.25:
        below = tone * 0.2 if tone.mean() > 0.35 else np.minimum(tone + 0.6, 1)
    plate = lit(tone, 0.85 + 0.3 * clouds(rng, 5, 3))
    return surface(blend(plain(below), plate, step(radius - rng.uniform(0.22, 0.34))))


def leather(rng: Generator) -> Scene:
    tone = colour(rng, ["brown", "black", "red", "beige", "green", "gray"])
    grain = np.clip(1 - relative_distance(rng, whole(rng, 250, 900)), 0, 1) ** rng.uniform(0.5, 1)
    return surface(lit(tone, 0.43 + 0.5 * grain + 0.25 * clouds(rng, 4, 3)))


def wire_mesh(rng: Generator) -> Scene:
    tone, (u, v) = colour(rng, ["silver", "gray", "black", "white", "green"]), axes(rng, warp=3)
    pitch, width = rng.uniform(9, 20), rng.uniform(0.2, 0.4)
    a, b = zigzag(u / pitch), zigzag(v / pitch)
    wires = np.maximum(step(a - (1 - width), 0.12), step(b - (1 - width), 0.12))
    below = colour_unlike(rng, tone, ["black", "gray", "white", "beige", "blue"], 0.2)
    return surface(blend(plain(below), lit(tone, 0.4 + 0.7 * np.maximum(a, b)), wires))


def button(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, holes = colour_unlike(rng, tone0), Pose.draw(rng, 40, 54), choose(rng, [2, 4])
    subject = pose.ellipse(0, 0, 1)
    picture = paint(lit(tone, 0.92 + 0.12 * clouds(rng, 6, 3)), tone * 0.75, pose.ellipse(0, 0, 0.78) * 0.5)
    for px, py in regular(holes, 0.25, np.pi / 4):
        picture = paint(picture, (0.05, 0.05, 0.06), pose.ellipse(px, py, 0.1))
    return finish(rng, below, picture, subject, 0.5)


def gear(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, teeth = colour_unlike(rng, tone0, METALS), Pose.draw(rng, 44, 56), whole(rng, 9, 18)
    outline = contour(lambda a: 0.9 + 0.1 * np.clip(3 * np.cos(teeth * a), -1, 1), 12 * teeth)
    subject = pose.polygon(outline) * (1 - pose.ellipse(0, 0, rng.uniform(0.15, 0.3)))
    for px, py in regular(whole(rng, 3, 6), 0.52):
        subject = subject * (1 - pose.ellipse(px, py, 0.14))
    return finish(rng, below, lit(tone, 0.85 + 0.25 * noise(rng, 50)), subject, 0.5)


def capsule(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    pose, width = Pose.draw(rng, 46, 58), rng.uniform(0.3, 0.42)
    left, right = colour_unlike(rng, tone0), colour_unlike(rng, tone0)
    picture = paint(plain(left), right, pose.box(0, -width, 1.1, width))
    picture = paint(picture, left * 0.7, pose.box(-0.03, -width, 0.03, width))
    return finish(rng, below, gloss(pose, picture, width), pose.bar(-1, -width, 1, width), 0.3)


def cable(rng: Generator) -> Scene:
    """A cross-section: strands inside three insulated wires inside a sheath."""
    below, tone0 = ground(rng)
    pose = Pose.draw(rng, 48, 58)
    sheath = plain(colour_unlike(rng, tone0, ["black", "gray", "white"]))
    picture = paint(sheath, (0.8, 0.78, 0.72), pose.ellipse(0, 0, 0.88))
    names = rng.permutation(["blue", "brown", "green", "gray", "yellow"])[:3]
    for (px, py), name in zip(regular(3, 0.45), names, strict=True):
        picture = paint(picture, colour(rng, [str(name)]), pose.ellipse(px, py, 0.36))
        for sx, sy in np.concatenate([[[0, 0]], regular(6, 0.14)]):
            picture = paint(picture, (0.85, 0.5, 0.25), pose.ellipse(px + sx, py + sy, 0.075))
    return finish(rng, below, scaled(picture, 0.9 + 0.15 * noise(rng, 80)), pose.ellipse(0, 0, 1), 0.3)


def transistor(rng: Generator) -> Scene:
    """Three legs in a perforated board."""
    board = colour(rng, ["brown", "beige", "green"])
    pose = Pose.draw(rng, 46, 54, 0.15)
    x, y = pose.local()
    pitch = rng.uniform(0.22, 0.32)
    holes = step(0.25 - np.hypot(zigzag(x / pitch) - 1, zigzag(y / pitch) - 1), 0.2)
    below = paint(lit(board, 0.9 + 0.15 * noise(rng, 40)), (0.08, 0.07, 0.06), holes)
    tone, steel = colour(rng, ["black", "gray"]), colour(rng, ["silver", "white"])
    subject, picture = pose.box(-0.5, -0.75, 0.5, 0.1), lit(tone, 0.9 + 0.2 * noise(rng, 90))
    picture = paint(picture, steel, pose.box(-0.5, -0.75, 0.5, -0.5))
    picture = paint(picture, board * 0.6, pose.ellipse(0, -0.62, 0.09))
    for lx in (-0.3, 0.0, 0.3):
        leg = pose.box(lx - 0.05, 0.1, lx + 0.05, 0.85)
        picture, subject = paint(picture, steel, leg), np.maximum(subject, leg)
    return finish(rng, below, picture, subject, 0.3)


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
    return scan(lit((1, 1, 1), gray * rng.uniform(0.85, 1.2)), pose.box(-1, -1, 1, 1))


def brain(rng: Generator) -> Scene:
    pose = Pose.draw(rng, 50, 58, 0.25)
    x, y = pose.local()
    depth = np.hypot(x / 0.85, y)
    gray = 0.45 + 0.125 * np.sin(clouds(rng, 6) * 22)
    ventricles = np.maximum(pose.ellipse(-0.14, -0.05, 0.09, 0.26), pose.ellipse(0.14, -0.05, 0.09, 0.26))
    gray = gray * (1 - 0.7 * ventricles) * (1 - 0.5 * (np.abs(x) < 0.025))
    gray = gray * (1 - step(depth - 0.85, 0.03)) + 0.85 * step(depth - 0.9, 0.03)
    picture = lit((1, 1, 1), np.clip(gray + 0.05 * (noise(rng, 96) - 0.5), 0, 1) * rng.uniform(0.8, 1.2))
    return scan(picture, pose.ellipse(0, 0, 0.85, 1))


def skin(rng: Generator) -> Scene:
    light = rng.uniform(0.5, 0.92)
    tone = light * np.array([1, rng.uniform(0.68, 0.82), rng.uniform(0.52, 0.72)], np.float32)
    distance, _ = cells(rng, whole(rng, 200, 500))
    pores = np.clip(distance / (2 * float(distance.mean())), 0, 1)
    return Scene(lit(tone, 0.76 + 0.12 * pores + 0.25 * clouds(rng, 3)), FULL)
