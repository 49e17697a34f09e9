"""Renderers of objects: one item, or several parts of one, on a background."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    METALS,
    SIDE,
    TAU,
    Colour,
    Number,
    Picture,
    Plane,
    Points,
    Pose,
    Scene,
    blend,
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
    place,
    plain,
    regular,
    scaled,
    soften,
    step,
    wave,
    whole,
)
from pretraining.textures import any_field, any_texture


def nut(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, METALS), Pose.draw(rng)
    bore = rng.uniform(0.4, 0.6)
    subject = pose.polygon(regular(6)) * (1 - pose.ellipse(0, 0, bore))
    picture = lit(tone, 0.85 + 0.2 * noise(rng, 100))
    picture = paint(picture, tone * 0.6, pose.ellipse(0, 0, bore + 0.12) * 0.7)
    return finish(rng, below, picture, subject)


def washer(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, METALS), Pose.draw(rng)
    subject = pose.ellipse(0, 0, 1) * (1 - pose.ellipse(0, 0, rng.uniform(0.35, 0.65)))
    x, y = pose.local()
    turned = 0.8 + 0.25 * wave(np.hypot(x, y) * rng.uniform(6, 14)) + 0.1 * noise(rng, 60)
    return finish(rng, below, lit(tone, turned), subject)


def screw(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, width = colour_unlike(rng, tone0, METALS), Pose.draw(rng, 50, 60), rng.uniform(0.13, 0.22)
    x, _ = pose.local()
    shaft = np.maximum(pose.box(-0.5, -width, 0.8, width), pose.polygon([[0.8, -width], [1, 0], [0.8, width]]))
    head = pose.polygon(
        [
            [-1, -2.2 * width],
            [-0.8, -2.4 * width],
            [-0.5, -width],
            [-0.5, width],
            [-0.8, 2.4 * width],
            [-1, 2.2 * width],
        ]
    )
    thread = 0.6 + 0.5 * wave(x * rng.uniform(7, 12)) * (x > -0.45)
    return finish(rng, below, gloss(pose, lit(tone, thread), 2 * width), np.maximum(shaft, head))


def pill(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, flat = colour_unlike(rng, tone0), Pose.draw(rng), rng.uniform(0.5, 1)
    subject, picture = pose.ellipse(0, 0, 1, flat), lit(tone, 0.92 + 0.12 * noise(rng, 70))
    if chance(rng, 0.6):
        picture = paint(picture, tone * 0.7, pose.box(-0.03, -flat * 0.8, 0.03, flat * 0.8))
    if chance(rng, 0.4):
        dots = regular(whole(rng, 3, 8), 0.6)
        for px, py in dots:
            picture = paint(picture, tone * 0.6, pose.ellipse(px, py * flat, 0.07))
    return finish(rng, below, picture, subject, 0.6)


def bottle(rng: Generator) -> Scene:
    """Seen from above: rings of glass around the mouth."""
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["brown", "green", "black", "blue"]), Pose.draw(rng, 46, 58)
    x, y = pose.local()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    shine = np.clip(np.cos(angle * whole(rng, 1, 3) + rng.uniform(0, 6)), 0, 1) ** 4
    walls = 0.5 + 0.4 * wave(radius * rng.uniform(2, 3.5)) + 0.6 * shine * (radius > 0.5)
    picture = paint(lit(tone, walls), tone * 0.25, pose.ellipse(0, 0, rng.uniform(0.3, 0.45)))
    return finish(rng, below, picture, pose.ellipse(0, 0, 1))


def circuit_board(rng: Generator) -> Scene:
    below, _ = ground(rng)
    tone, pose = colour(rng, ["green", "blue", "black", "red"]), Pose.draw(rng, 44, 50, 0.2)
    subject, picture = pose.box(-1, -1, 1, 1), lit(tone, 0.9 + 0.15 * noise(rng, 50))
    copper = colour(rng, ["orange", "yellow", "silver"])
    for _ in range(whole(rng, 4, 9)):
        x, y, turn = rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9)
        picture = paint(picture, np.clip(tone * 1.6 + 0.05, 0, 1), pose.stroke([[x, y], [turn, y], [turn, -y]], 1))
    for _ in range(whole(rng, 2, 5)):
        x, y, a, b = rng.uniform(-0.65, 0.65), rng.uniform(-0.65, 0.65), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.25)
        picture = paint(picture, copper, pose.box(x - a - 0.06, y - b * 0.8, x + a + 0.06, y + b * 0.8) * 0.9)
        picture = paint(
            picture,
            choose(rng, [(0.1, 0.1, 0.1), (0.3, 0.3, 0.32), (0.75, 0.7, 0.6)]),
            pose.box(x - a, y - b, x + a, y + b),
        )
    for x, y in ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)):
        picture = paint(picture, copper, pose.ellipse(x, y, 0.09))
    return finish(rng, below, picture, subject, 0.2)


def cookie(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["brown", "beige", "orange"]), Pose.draw(rng)
    waves, phase, depth = whole(rng, 5, 24), rng.uniform(0, 6), rng.uniform(0, 0.06)
    subject = pose.polygon(contour(lambda a: 1 - depth + depth * np.cos(waves * a + phase)))
    picture = lit(tone, 0.7 + 0.5 * clouds(rng, 16, 3))
    for _ in range(whole(rng, 5, 14)):
        radius, angle = 0.8 * rng.random() ** 0.5, rng.uniform(0, TAU)
        picture = paint(
            picture,
            (0.2, 0.11, 0.07),
            pose.ellipse(radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0.06, 0.12)),
        )
    return finish(rng, below, picture, subject, 0.5)


def candle(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0), Pose.draw(rng, 36, 50)
    x, y = pose.local()
    picture = lit(tone, 0.8 + 0.25 * np.hypot(x, y) + 0.1 * (clouds(rng, 4, 2) - 0.5))
    picture = paint(picture, np.clip(tone * 1.2 + 0.05, 0, 1), pose.ellipse(0, 0, 0.75) * 0.5)
    bend = rng.uniform(-0.15, 0.15, 2)
    picture = paint(picture, (0.1, 0.09, 0.08), pose.stroke([[0, 0], bend], 4))
    return finish(rng, below, picture, pose.ellipse(0, 0, 1), 0.6)


def key(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, METALS), Pose.draw(rng, 52, 60)
    subject = np.maximum(pose.ellipse(-0.65, 0, 0.35, rng.uniform(0.25, 0.38)), pose.box(-0.4, -0.09, 1, 0.09))
    for x in np.arange(0.3, 0.95, rng.uniform(0.13, 0.2)):
        subject = np.maximum(subject, pose.box(float(x), 0, float(x) + 0.08, rng.uniform(0.15, 0.3)))
    subject = subject * (1 - pose.ellipse(-0.72, 0, 0.12))
    return finish(rng, below, lit(tone, 0.85 + 0.25 * noise(rng, 40)), subject, 0.5)


def chip(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    pose, legs, high = Pose.draw(rng, 42, 54, 0.3), whole(rng, 4, 9), rng.uniform(0.4, 0.65)
    tone, steel = colour_unlike(rng, tone0, ["black", "gray", "brown"], 0.15), colour(rng, ["silver", "white"])
    subject, picture = pose.box(-0.9, -high, 0.9, high), lit(tone, 0.9 + 0.2 * noise(rng, 110))
    for x in np.linspace(-0.78, 0.78, legs):
        for sign in (-1, 1):
            leg = pose.box(
                float(x) - 0.05,
                min(sign * high, sign * (high + 0.28)),
                float(x) + 0.05,
                max(sign * high, sign * (high + 0.28)),
            )
            picture, subject = paint(picture, steel, leg), np.maximum(subject, leg)
    picture = paint(picture, tone * 0.5, pose.ellipse(-0.75, high * 0.6, 0.08))
    for row in range(whole(rng, 0, 3)):
        y = -0.2 + 0.18 * row
        picture = paint(
            picture, (0.75, 0.75, 0.72), pose.stroke([[-0.5, y], [rng.uniform(0, 0.6), y]], 2) * noise(rng, 40, 2)
        )
    return finish(rng, below, picture, subject, 0.3)


def battery(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, width = colour_unlike(rng, tone0), Pose.draw(rng, 50, 60), rng.uniform(0.24, 0.42)
    subject = np.maximum(pose.box(-0.92, -width, 0.88, width), pose.box(0.8, -width * 0.4, 1, width * 0.4))
    picture = plain(tone)
    split = rng.uniform(-0.3, 0.4)
    picture = paint(picture, colour_unlike(rng, tone), pose.box(split, -width, 0.88, width))
    picture = paint(picture, (0.75, 0.75, 0.76), pose.box(0.84, -width, 1, width))
    return finish(rng, below, gloss(pose, picture, width), subject, 0.2)


def lens(rng: Generator) -> Scene:
    below, _ = ground(rng)
    tone, pose = colour(rng, ["cyan", "blue", "white", "gray", "purple"]), Pose.draw(rng, 42, 56)
    x, y = pose.local()
    picture = blend(
        below, lit(tone, 0.75 + 0.3 * np.clip(1 - np.hypot(x + 0.3, y + 0.3), 0, 1)), np.float32(0.75) * np.ones_like(x)
    )
    ring = pose.ellipse(0, 0, 1) - pose.ellipse(0, 0, rng.uniform(0.85, 0.95))
    picture = paint(picture, tone * 0.4, ring)
    picture = paint(picture, (1, 1, 1), soften(pose.ellipse(-0.35, -0.35, 0.2, 0.1, 0.8), 2) * 0.7)
    return finish(rng, below, picture, pose.ellipse(0, 0, 1), 0.15)


def zipper(rng: Generator) -> Scene:
    cloth, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["silver", "gray", "yellow", "black", "white"]), Pose.draw(rng, 58, 63, 0.1)
    x, y = pose.local()
    pitch, width = rng.uniform(0.09, 0.15), rng.uniform(0.1, 0.2)
    teeth = step(wave(y / pitch + 0.5 * (x > 0)) - 0.45, 0.5) * (np.abs(x) < width)
    tape = pose.box(-0.5, -1.2, 0.5, 1.2)
    picture = lit(colour_unlike(rng, tone), 0.85 + 0.15 * noise(rng, 90))
    picture = paint(picture, tone * 0.35, (np.abs(x) < width).astype(np.float32))
    return place(rng, cloth, paint(picture, tone, teeth), tape)


def toothbrush(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0), Pose.draw(rng, 50, 58, 0.4)
    subject, picture = pose.bar(-1, -0.36, 1, 0.36), plain(tone)
    pair, rows = (colour(rng), colour(rng)), whole(rng, 6, 9)
    for i in range(rows):
        for j in range(3):
            tuft = pose.ellipse(-0.8 + 1.6 * i / (rows - 1), -0.22 + j * 0.22, 0.09)
            picture = paint(picture, pair[(i + j) % 2], tuft * 0.9)
    return finish(rng, below, scaled(picture, 0.8 + 0.3 * noise(rng, 110)), subject)


def bearing(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, balls = (
        colour_unlike(rng, tone0, ["silver", "gray", "yellow"]),
        Pose.draw(rng, 44, 56),
        whole(rng, 7, 14),
    )
    bore = rng.uniform(0.25, 0.4)
    subject = pose.ellipse(0, 0, 1) * (1 - pose.ellipse(0, 0, bore))
    picture = paint(
        lit(tone, 0.85 + 0.15 * noise(rng, 60)), tone * 0.3, pose.ellipse(0, 0, 0.8) - pose.ellipse(0, 0, bore + 0.15)
    )
    middle = (0.95 + bore) / 2
    for px, py in regular(balls, middle):
        size = min(0.5 * (0.65 - bore), 2.4 / balls)
        picture = paint(picture, np.minimum(tone * 1.2, 1), pose.ellipse(px, py, size))
        picture = paint(picture, (1, 1, 1), pose.ellipse(px - 0.03, py - 0.03, size * 0.3))
    return finish(rng, below, picture, subject)


def watch(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["white", "black", "silver", "blue", "beige"]), Pose.draw(rng, 46, 56, 0.3)
    ink = np.full(3, 0.08) if tone.mean() > 0.45 else np.full(3, 0.92)
    picture = paint(plain(colour(rng, METALS)), tone, pose.ellipse(0, 0, 0.86))
    for number, (px, py) in enumerate(regular(12)):
        inner = 0.62 if number % 3 == 0 else 0.7
        picture = paint(
            picture, ink, pose.stroke([[px * inner, py * inner], [px * 0.8, py * 0.8]], 3 if number % 3 == 0 else 1)
        )
    for length, width in ((0.4, 3), (0.62, 2)):
        angle = rng.uniform(0, TAU)
        picture = paint(picture, ink, pose.stroke([[0, 0], [length * np.cos(angle), length * np.sin(angle)]], width))
    return finish(rng, below, picture, pose.ellipse(0, 0, 1), 0.3)


def spring(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, turns = colour_unlike(rng, tone0, METALS), Pose.draw(rng, 48, 58), whole(rng, 5, 11)
    along, wide = np.linspace(-1, 1, 24 * turns), rng.uniform(0.25, 0.45)
    line = np.stack([along, wide * np.sin(along * turns * np.pi)], 1)
    subject, thickness = pose.stroke(line, 4), rng.uniform(1, 2)
    picture = paint(plain(tone * 0.6), np.minimum(tone * 1.2, 1), pose.stroke(line, thickness))
    return place(rng, below, picture, subject)


def flower(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, petals = colour_unlike(rng, tone0), Pose.draw(rng, 44, 56), whole(rng, 4, 10)
    depth = rng.uniform(0.15, 0.4)
    subject = pose.polygon(contour(lambda a: 1 - depth + depth * np.cos(petals * a), 120))
    x, y = pose.local()
    veins = 0.8 + 0.25 * wave(np.arctan2(y, x) * petals * 2 / TAU) * np.hypot(x, y)
    picture = paint(
        lit(tone, veins),
        colour_unlike(rng, tone, ["yellow", "brown", "orange"]),
        pose.ellipse(0, 0, rng.uniform(0.2, 0.35)),
    )
    return finish(rng, below, picture, subject)


def keyboard(rng: Generator) -> Scene:
    tone, pose = colour(rng, ["black", "white", "gray", "beige"]), Pose.draw(rng, 56, 62, 0.12)
    below, _ = ground(rng)
    caps, columns, rows = colour_unlike(rng, tone, (), 0.15), whole(rng, 4, 7), whole(rng, 3, 5)
    picture, subject, ink = plain(tone), pose.box(-1, -0.8, 1, 0.8), colour_unlike(rng, caps)
    for i in range(columns):
        for j in range(rows):
            x, y, a, b = -0.95 + 1.9 * i / columns, -0.75 + 1.5 * j / rows, 1.65 / columns, 1.25 / rows
            picture = paint(picture, caps, pose.box(x, y, x + a, y + b))
            if chance(rng, 0.8):
                glyph = [
                    [x + a * 0.3, y + b * rng.uniform(0.2, 0.8)],
                    [x + a * rng.uniform(0.3, 0.7), y + b * 0.3],
                    [x + a * 0.6, y + b * 0.7],
                ]
                picture = paint(picture, ink, pose.stroke(glyph, 1))
    return finish(rng, below, picture, subject, 0.2)


def fuse(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, width = (
        colour_unlike(rng, tone0, ["silver", "yellow", "gray"]),
        Pose.draw(rng, 48, 60),
        rng.uniform(0.2, 0.34),
    )
    subject = pose.bar(-1, -width, 1, width)
    picture = blend(below, plain((0.85, 0.9, 0.9)), 0.6 * subject)
    picture = paint(
        picture, (0.3, 0.3, 0.3), pose.stroke([[-0.6, 0], [0, rng.uniform(-0.5, 0.5) * width], [0.6, 0]], 1)
    )
    for x0, x1 in ((-1.1, -0.5), (0.5, 1.1)):
        picture = paint(picture, tone, pose.box(x0, -width, x1, width))
    return finish(rng, below, gloss(pose, picture, width), subject, 0.2)


def pencil(rng: Generator) -> Scene:
    below, tone0 = ground(rng)
    tone, pose, width = colour_unlike(rng, tone0), Pose.draw(rng, 54, 62), rng.uniform(0.09, 0.17)
    subject = pose.polygon([[-1, -width], [0.65, -width], [1, 0], [0.65, width], [-1, width]])
    picture = paint(plain(tone), (0.85, 0.7, 0.5), pose.box(0.6, -width, 1, width))
    picture = paint(picture, tone * 0.4, pose.box(0.88, -width, 1, width))
    picture = paint(picture, (0.75, 0.75, 0.75), pose.box(-0.86, -width, -0.72, width))
    picture = paint(picture, colour(rng, ["pink", "white", "red"]), pose.box(-1, -width, -0.86, width))
    return finish(rng, below, gloss(pose, picture, 1.5 * width), subject, 0.1)


def pizza(rng: Generator) -> Scene:
    below, _ = ground(rng)
    pose = Pose.draw(rng, 48, 58)
    picture = lit((0.85, 0.6, 0.3), 0.75 + 0.4 * clouds(rng, 8, 3))
    picture = blend(picture, lit((0.92, 0.78, 0.4), 0.8 + 0.35 * clouds(rng, 12, 3)), pose.ellipse(0, 0, 0.85))
    for _ in range(whole(rng, 5, 10)):
        radius, angle = 0.65 * rng.random() ** 0.5, rng.uniform(0, TAU)
        at = (radius * np.cos(angle), radius * np.sin(angle))
        picture = paint(
            picture,
            choose(rng, [(0.7, 0.15, 0.1), (0.25, 0.45, 0.15), (0.15, 0.12, 0.1)]),
            pose.ellipse(*at, rng.uniform(0.07, 0.17)),
        )
    return finish(rng, below, picture, pose.ellipse(0, 0, 1))


def paint_palette(rng: Generator) -> Scene:
    """A set of differently coloured wells: normal variety between the parts of one object."""
    below, tone0 = ground(rng)
    tone, pose = colour_unlike(rng, tone0, ["white", "black", "brown", "gray"]), Pose.draw(rng, 48, 58, 0.3)
    columns, rows = whole(rng, 2, 5), whole(rng, 2, 4)
    subject, picture = pose.box(-1, -0.8, 1, 0.8), plain(tone)
    for i in range(columns):
        for j in range(rows):
            x, y = -1 + (2 * i + 1) / columns, -0.8 + 1.6 * (j + 0.5) / rows
            picture = paint(picture, colour(rng), pose.ellipse(x, y, 0.8 / columns, 0.62 / rows))
    return finish(rng, below, scaled(picture, 0.9 + 0.2 * noise(rng, 30)), subject)


def cord_bundle(rng: Generator) -> Scene:
    """Loose insulated wires side by side."""
    below, _ = ground(rng)
    pose, count = Pose.draw(rng, 56, 62), whole(rng, 3, 7)
    subject, picture, thick = np.zeros((SIDE, SIDE), np.float32), below, rng.uniform(4, 9)
    for number in range(count):
        y, tone = (number - (count - 1) / 2) * 0.26, colour(rng)
        x = np.linspace(-1.1, 1.1, 12)
        line = np.stack([x, y + 0.08 * np.sin(x * rng.uniform(1, 4) + rng.uniform(0, 6))], 1)
        cover = pose.stroke(line, thick)
        picture = paint(
            paint(picture, tone * 0.75, cover), np.clip(tone * 1.3, 0, 1), pose.stroke(line, thick / 3) * 0.7
        )
        subject = np.maximum(subject, cover)
    return place(rng, below, picture, subject)


# ---- open: no name, any look -----------------------------------------------------------------------------------------


def _backdrop(rng: Generator) -> tuple[Picture, Colour]:
    """What an object lies on, and its mean colour: a plain ground, or now and then a texture."""
    below, tone = ground(rng)
    if chance(rng, 0.25):
        below = any_texture(rng).picture
        tone = below.mean((0, 1))
    return below, tone


def _superellipse(power: Number) -> Points:
    """An outline of unit radius between a cross (power below 1), a disc (2) and a square (many)."""
    return contour(lambda a: (np.abs(np.cos(a)) ** power + np.abs(np.sin(a)) ** power) ** (-1 / power))


def _outline(rng: Generator) -> Points:
    """A closed outline of about unit radius: polygon, star, wave, superellipse, cross, crescent, or irregular."""
    kind = whole(rng, 0, 7)
    if kind == 0:
        return regular(whole(rng, 3, 10), 1, rng.uniform(0, 6))
    if kind == 1:
        corners = whole(rng, 4, 12)
        return np.stack([regular(corners), regular(corners, rng.uniform(0.4, 0.85), np.pi / corners)], 1).reshape(-1, 2)
    if kind == 2:
        waves, depth = whole(rng, 2, 14), rng.uniform(0.03, 0.3)
        return contour(lambda a: 1 - depth + depth * np.cos(waves * a))
    if kind == 3:
        power, flat = rng.uniform(0.5, 6), rng.uniform(0.35, 1)
        return _superellipse(power) * [1, flat]
    if kind == 4:
        arm = rng.uniform(0.2, 0.5)
        cross = [[1, arm], [arm, arm], [arm, 1], [-arm, 1], [-arm, arm], [-1, arm]]
        return np.concatenate([np.array(cross), -np.array(cross)]) * [1, rng.uniform(0.5, 1)]
    if kind == 5:
        angle, thick = np.linspace(-2.2, 2.2, 40) * rng.uniform(0.5, 1), rng.uniform(0.15, 0.45)
        arc = np.stack([np.cos(angle), np.sin(angle)], 1)
        return np.concatenate([arc, arc[::-1] * (1 - thick)]) - [rng.uniform(0, 0.3), 0]
    if kind == 6:
        phases, sizes = rng.uniform(0, 6, 5), rng.uniform(0, 0.16, 5) / np.arange(1, 6) ** 0.5
        return contour(
            lambda a: 0.8 + sum(s * np.cos((k + 2) * a + p) for k, (s, p) in enumerate(zip(sizes, phases, strict=True)))
        )
    wide, high = rng.uniform(0.2, 1), 1.0
    return np.array(
        [[-high, -wide], [high, -wide], [high * rng.uniform(0.4, 1), wide], [-high * rng.uniform(0.4, 1), wide]]
    )


def _fill(rng: Generator, pose: Pose, tone: Colour) -> Picture:
    """The material of a part: plain, graded, glossy, turned, grainy or patterned."""
    kind = whole(rng, 0, 6)
    if kind == 0:
        return plain(tone)
    if kind == 1:
        x, _ = pose.local()
        return lit(tone, np.clip(1 + rng.uniform(-0.4, 0.4) * x, 0.3, 1.6))
    if kind == 2:
        return gloss(pose, plain(tone), rng.uniform(0.3, 1))
    if kind == 3:
        x, y = pose.local()
        return lit(tone, 0.75 + 0.35 * wave(np.hypot(x, y) * rng.uniform(1, 10)))
    if kind == 4:
        return lit(tone, 0.8 + 0.4 * clouds(rng, rng.uniform(3, 40), 3))
    if kind == 5:
        return lit(tone, 0.9 + 0.2 * noise(rng, rng.uniform(20, SIDE)))
    other = colour(rng) if chance(rng, 0.5) else np.clip(tone * rng.uniform(0.5, 1.5), 0, 1)
    return paint(plain(tone), other, np.clip(any_field(rng), 0, 1) * rng.uniform(0.3, 1))


def _sites(rng: Generator) -> Sequence[tuple[float, float, float]]:
    """Where parts sit: on a ring, a grid, a line or anywhere. x, y and size in own coordinates."""
    kind = whole(rng, 0, 3)
    if kind == 0:
        count, radius = whole(rng, 2, 10), rng.uniform(0.35, 0.75)
        return [(px, py, min(0.3, 1.6 * radius / count)) for px, py in regular(count, radius, rng.uniform(0, 6))]
    if kind == 1:
        columns, rows = whole(rng, 2, 4), whole(rng, 1, 4)
        size = 0.5 / max(columns, rows)
        return [
            (-0.7 + 1.4 * (i + 0.5) / columns, -0.7 + 1.4 * (j + 0.5) / rows, size)
            for i in range(columns)
            for j in range(rows)
        ]
    if kind == 2:
        count = whole(rng, 2, 6)
        return [(-0.75 + 1.5 * (i + 0.5) / count, 0.0, 0.6 / count) for i in range(count)]
    return [
        (rng.uniform(-0.65, 0.65), rng.uniform(-0.65, 0.65), rng.uniform(0.06, 0.28)) for _ in range(whole(rng, 2, 7))
    ]


def any_object(rng: Generator) -> Scene:
    """An object of the open grammar: a body, parts that are alike or all different, holes, lines and a background."""
    below, tone0 = _backdrop(rng)
    tone, pose = colour_unlike(rng, tone0), Pose.draw(rng, 36, 60)
    subject = pose.polygon(_outline(rng))
    picture = _fill(rng, pose, tone)
    if chance(rng, 0.3):  # a second body: next to the first or on it
        other = Pose(
            tuple(pose([[rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.5)]])[0].tolist()),
            pose.radius * rng.uniform(0.3, 0.7),
            rng.uniform(0, 6),
        )
        cover = other.polygon(_outline(rng))
        picture, subject = (
            blend(picture, _fill(rng, other, colour_unlike(rng, tone, (), 0.2)), cover),
            np.maximum(subject, cover),
        )
    if chance(rng, 0.65):
        alike, ink, shape, turn = chance(rng, 0.55), colour_unlike(rng, tone), _outline(rng), rng.uniform(0, 6)
        for px, py, size in _sites(rng):
            if not alike:
                ink, shape, turn = colour(rng), _outline(rng), rng.uniform(0, 6)
            part = Pose(tuple(pose([[px, py]])[0].tolist()), pose.radius * size, pose.angle + turn)
            picture = paint(picture, ink, part.polygon(shape))
    if chance(rng, 0.3):  # rims or lines
        x, y = pose.local()
        depth = np.hypot(x, y) if chance(rng, 0.5) else np.maximum(np.abs(x), np.abs(y))
        picture = scaled(
            picture, 1 - rng.uniform(0.2, 0.6) * (np.abs(depth - rng.uniform(0.3, 0.9)) < rng.uniform(0.02, 0.06))
        )
    if chance(rng, 0.25):  # print: a few strokes of one colour
        ink = colour_unlike(rng, tone)
        for _ in range(whole(rng, 1, 5)):
            picture = paint(picture, ink, pose.stroke(rng.uniform(-0.6, 0.6, (whole(rng, 2, 4), 2)), whole(rng, 1, 2)))
    if chance(rng, 0.25):
        subject = subject * (1 - pose.ellipse(rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.4)))
    if chance(rng, 0.15):  # black surroundings, as in scans
        return Scene(blend(plain((0.03, 0.03, 0.03)), picture, subject), subject)
    return finish(rng, below, picture, subject, rng.uniform(0.1, 0.6))


def _ordered_sites(rng: Generator) -> Sequence[tuple[float, float, float, float]]:
    """Where like parts of a well-made object sit: centre, ring, grid, row or mirrored pair. x, y, size and turn."""
    kind = whole(rng, 0, 5)
    if kind == 0:
        return [(0.0, 0.0, rng.uniform(0.15, 0.7), 0.0)]
    if kind <= 2:
        count, radius = whole(rng, 2, 12), rng.uniform(0.3, 0.8)
        size, phase = min(rng.uniform(0.1, 0.35), 2.4 * radius / count), choose(rng, (0.0, np.pi / 4, np.pi / 2))
        turns = phase + np.arange(count) * TAU / count
        return [(float(radius * np.cos(a)), float(radius * np.sin(a)), size, float(a)) for a in turns]
    if kind == 3:
        columns, rows, wide, high = whole(rng, 2, 6), whole(rng, 1, 5), rng.uniform(0.4, 0.8), rng.uniform(0.2, 0.7)
        size = rng.uniform(0.3, 0.45) * min(2 * wide / columns, 2 * high / rows)
        return [(float(x), float(y), size, 0.0) for x in _spread(columns, wide) for y in _spread(rows, high)]
    if kind == 4:
        count, wide, y = whole(rng, 2, 9), rng.uniform(0.5, 0.9), rng.uniform(-0.6, 0.6)
        return [(float(x), y, rng.uniform(0.5, 0.9) * wide / count, 0.0) for x in _spread(count, wide)]
    x, y, size = rng.uniform(0.2, 0.75), rng.uniform(-0.6, 0.6), rng.uniform(0.08, 0.3)
    return [(-x, y, size, np.pi), (x, y, size, 0.0)]


def _simple_outline(rng: Generator) -> Points:
    """Mostly what things are made of: discs, ellipses, rectangles and bars; now and then any outline."""
    if chance(rng, 0.35):
        return _outline(rng)
    flat, kind = choose(rng, (1.0, rng.uniform(0.25, 1))), whole(rng, 0, 2)
    if kind == 0:
        return contour(np.ones_like) * [1, flat]
    if kind == 1:
        return 0.9 * np.array([[-1, -flat], [1, -flat], [1, flat], [-1, flat]])
    return _superellipse(rng.uniform(3, 8)) * [1, flat]


def _spread(count: int, reach: Number) -> np.ndarray:
    """The middles of `count` equal cells between -reach and reach."""
    return reach * ((2 * np.arange(count) + 1) / count - 1)


def _limbs(rng: Generator, pose: Pose) -> Plane:
    """Coverage of legs on one or two sides, or of teeth all around."""
    cover, kind, long = np.zeros((SIDE, SIDE), np.float32), whole(rng, 0, 2), rng.uniform(0.2, 0.5)
    if kind == 2:
        count = whole(rng, 5, 20)
        thick = rng.uniform(0.25, 0.5) * TAU / count
        for angle in np.arange(count) * TAU / count:
            tooth = Pose(pose.centre, pose.radius, pose.angle + float(angle))
            cover = np.maximum(cover, tooth.box(0.5, -thick / 2, 0.9 + 0.5 * long, thick / 2))
        return cover
    count, wide = whole(rng, 2, 9), rng.uniform(0.4, 0.9)
    thick = rng.uniform(0.3, 0.7) * wide / count
    for x in _spread(count, wide):
        for side in (1,) if kind == 0 else (-1, 1):
            ends = sorted((side * 0.3, side * (0.7 + long)))
            cover = np.maximum(cover, pose.box(float(x) - thick, ends[0], float(x) + thick, ends[1]))
    return cover


def any_component(rng: Generator) -> Scene:
    """A well-made object of the open grammar: parts in rings, grids, rows and mirrored pairs, some nested, some unlike.

    Whatever is irregular in it is a defect, which does not hold for the looser `any_object`.
    """
    below, tone0 = _backdrop(rng)
    scan = chance(rng, 0.15)
    shades = ("gray", "silver", "white") if scan else ()
    tone, pose = colour_unlike(rng, tone0, shades), Pose.draw(rng, 38, 58)
    subject, picture = pose.polygon(_simple_outline(rng)), _fill(rng, pose, tone)
    if chance(rng, 0.3):
        limbs = _limbs(rng, pose)
        if chance(rng, 0.6):
            picture = paint(picture, colour_unlike(rng, tone, shades), limbs * (1 - subject))
        subject = np.maximum(subject, limbs)
    if chance(rng, 0.35):  # a rim that follows a circle or a square
        x, y = pose.local()
        depth = np.hypot(x, y) if chance(rng, 0.6) else np.maximum(np.abs(x), np.abs(y))
        rim = step(rng.uniform(0.03, 0.1) - np.abs(depth - rng.uniform(0.4, 0.95)), 0.03)
        picture = paint(picture, np.clip(tone * rng.uniform(0.4, 1.5), 0, 1), rim)
    for _ in range(whole(rng, 1, 3)):
        shape, inner, ink = _simple_outline(rng), _simple_outline(rng), colour_unlike(rng, tone, shades)
        nested, core, cut = chance(rng, 0.45), colour_unlike(rng, ink, shades), chance(rng, 0.2)
        unlike, depth = chance(rng, 0.25), rng.uniform(0.35, 0.75)
        for px, py, size, turn in _ordered_sites(rng):
            part = Pose(tuple(pose([[px, py]])[0].tolist()), pose.radius * size, pose.angle + turn)
            cover = part.polygon(shape)
            if cut:
                subject = subject * (1 - cover)
                continue
            picture = paint(picture, colour(rng, shades) if unlike else ink, cover)
            if nested:
                picture = paint(picture, core, part.polygon(depth * inner))
    if chance(rng, 0.5):
        picture = scaled(picture, 0.88 + 0.24 * noise(rng, rng.uniform(20, SIDE)))
    if scan:
        return Scene(blend(plain((0.03, 0.03, 0.03)), picture, subject), subject)
    return finish(rng, below, picture, subject, rng.uniform(0.1, 0.6))
