"""Renderers of textures: each fills the whole canvas with one material, normal but never twice the same."""

import numpy as np
from numpy.random import Generator

from cops_lightning.demo.canvas import (
    SIDE,
    Plane,
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
    lit,
    noise,
    paint,
    plain,
    relative_distance,
    scaled,
    shades,
    soften,
    step,
    stroke,
    surface,
    wander,
    wave,
    whole,
    zigzag,
)


def wood(rng: Generator) -> Scene:
    tone, (u, _) = colour(rng, ["brown", "beige", "orange", "gray"]), axes(rng)
    rings = wave(u / rng.uniform(7, 22) + clouds(rng, 3, 3) * rng.uniform(1, 4))
    fibre = noise(rng, 64, 4) if chance(rng, 0.5) else noise(rng, 4, 64)
    return surface(
        blend(plain(tone * 0.6), plain(np.minimum(tone * 1.15, 1)), np.clip(0.65 * rings + 0.35 * fibre, 0, 1))
    )


def marble(rng: Generator) -> Scene:
    tone, (u, _) = colour(rng, ["white", "gray", "black", "beige", "green", "pink"]), axes(rng)
    folds = np.sin(u / rng.uniform(14, 40) + rng.uniform(5, 12) * clouds(rng, 4))
    veins = (1 - np.abs(folds)) ** rng.uniform(3, 8)
    vein = np.clip(1 - tone, 0.1, 0.8) if chance(rng, 0.5) else tone * 0.5
    return surface(paint(lit(tone, 0.85 + 0.3 * clouds(rng, 3, 3)), vein, veins * rng.uniform(0.3, 0.7)))


def brushed_metal(rng: Generator) -> Scene:
    tone = colour(rng, ["silver", "gray", "orange", "beige"])
    lines = 0.6 * noise(rng, 3, SIDE) + 0.4 * noise(rng, 8, SIDE)
    return surface(lit(tone, 0.72 + 0.5 * (lines.T if chance(rng, 0.5) else lines)))


def carpet(rng: Generator) -> Scene:
    tone, (_, v) = colour(rng), axes(rng)
    pile = 0.6 * noise(rng, SIDE) + 0.4 * noise(rng, 64)
    rows = 0.18 * wave(v / rng.uniform(8, 16)) * whole(rng, 0, 1)
    return surface(lit(tone, 0.45 + 0.6 * pile + rows + 0.3 * (clouds(rng, 6, 2) - 0.5)))


def knitwear(rng: Generator) -> Scene:
    tone, (u, v), pitch = colour(rng), axes(rng, 0.3, warp=5), rng.uniform(9, 18)
    across = zigzag(u / pitch)
    loops = wave(v / pitch * 1.3 + across * 0.9)
    return surface(lit(tone, 0.35 + 0.4 * loops + 1.4 * (1 - across) * across + 0.12 * (noise(rng, 96) - 0.5)))


def concrete(rng: Generator) -> Scene:
    tone = colour(rng, ["gray", "beige", "white", "brown"])
    pores = step(noise(rng, 64) - rng.uniform(0.85, 1.0), 0.1)
    return surface(paint(lit(tone, 0.6 + 0.8 * clouds(rng, 4, 6, 0.65)), tone * 0.4, pores * 0.6))


def paper(rng: Generator) -> Scene:
    tone = colour(rng, ["white", "beige", "yellow", "pink", "cyan"])
    picture = lit(tone, 0.84 + 0.1 * noise(rng, 96) + 0.12 * clouds(rng, 3, 2))
    if chance(rng, 0.5):
        (_, v), pitch = axes(rng, 0.1), rng.uniform(10, 22)
        picture = paint(picture, (0.35, 0.45, 0.7), step(zigzag(v / pitch) - (1 - 1.3 / pitch), 0.1) * 0.6)
    return surface(picture)


def cork(rng: Generator) -> Scene:
    tone, (distance, index) = colour(rng, ["brown", "beige", "orange"]), cells(rng, whole(rng, 150, 500))
    return surface(lit(tone, 0.5 + 0.5 * shades(rng, index) + 0.2 * noise(rng, 64) - 0.015 * distance))


def denim(rng: Generator) -> Scene:
    tone, (u, v), pitch = colour(rng, ["blue", "black", "gray", "cyan"]), axes(rng), rng.uniform(3.5, 7)
    twill, weft = wave((u + v / 2) / pitch), wave((u - v) / pitch / 1.3)
    return surface(lit(tone, 0.38 + 0.5 * twill + 0.3 * weft * twill + 0.25 * noise(rng, 64)))


def terrazzo(rng: Generator) -> Scene:
    tone = colour(rng, ["white", "beige", "gray", "black", "pink"])
    distance, index = cells(rng, whole(rng, 60, 220))
    palette = np.stack([colour(rng) for _ in range(4)] + [tone] * 5)
    chips = palette[rng.integers(0, 9, 1024)][index % 1024]
    soft = soften(distance, 0.8)
    edge = step(float(np.percentile(soft, 60)) - soft, 1.5)
    return surface(scaled(blend(plain(tone), chips, edge), 0.92 + 0.16 * noise(rng, 64)))


def corrugated(rng: Generator) -> Scene:
    tone, (u, _) = colour(rng, ["beige", "brown", "gray", "white", "silver"]), axes(rng, warp=4)
    ridges = wave(u / rng.uniform(6, 16)) ** rng.uniform(0.5, 2)
    return surface(lit(tone, 0.45 + 0.5 * ridges + 0.2 * clouds(rng, 6, 3)))


def sandpaper(rng: Generator) -> Scene:
    tone = colour(rng, ["beige", "brown", "gray", "red", "black"])
    grain = soften(rng.random((SIDE, SIDE), dtype=np.float32), rng.uniform(0.5, 1.2))
    grain = (grain - 0.5) / float(grain.std()) * 0.14 + 0.5
    return surface(lit(tone, 0.38 + grain + 0.15 * clouds(rng, 3, 2)))


def pebbles(rng: Generator) -> Scene:
    tone, (distance, index) = colour(rng, ["gray", "beige", "brown", "white"]), cells(rng, whole(rng, 60, 260))
    dome = np.clip(1 - distance / (3.2 * float(distance.mean())), 0, 1)
    return surface(lit(tone, (0.15 + 0.95 * dome**0.7) * (0.7 + 0.6 * shades(rng, index)) + 0.08 * noise(rng, 96)))


def wallpaper(rng: Generator) -> Scene:
    """A motif of one to three petals or discs, repeated on a lattice."""
    tone, (u, v), pitch = colour(rng), axes(rng, 0.2), rng.uniform(16, 34)
    row = np.floor(v / pitch)
    shift = 0.5 * whole(rng, 0, 1)
    a, b = u / pitch + shift * (row % 2), v / pitch
    a, b = a - np.floor(a) - 0.5, b - np.floor(b) - 0.5
    radius, angle, picture = np.hypot(a, b), np.arctan2(b, a), lit(tone, 0.92 + 0.16 * clouds(rng, 4, 2))
    for _ in range(whole(rng, 1, 3)):
        petals, size = whole(rng, 0, 7), rng.uniform(0.12, 0.42)
        rim = size * (1 + rng.uniform(0.1, 0.5) * np.cos(petals * angle + rng.uniform(0, 6)))
        picture = paint(picture, colour(rng), step(rim - radius, 0.06))
    return surface(picture)


def corduroy(rng: Generator) -> Scene:
    tone, (u, v), pitch = colour(rng), axes(rng, warp=3), rng.uniform(5, 11)
    rib = np.sqrt(1.001 - zigzag(u / pitch) ** 2)
    return surface(lit(tone, 0.3 + 0.55 * rib + 0.2 * wave(v / rng.uniform(2.5, 5)) * rib + 0.2 * noise(rng, 96)))


def foam(rng: Generator) -> Scene:
    tone, sizes = colour(rng, ["yellow", "white", "gray", "blue", "pink", "black"]), whole(rng, 120, 600)
    pores = np.clip(relative_distance(rng, sizes), 0, 1.4) ** rng.uniform(0.7, 1.6)
    return surface(lit(tone, 0.5 + 0.45 * pores + 0.2 * clouds(rng, 3, 2)))


def granite(rng: Generator) -> Scene:
    tone = colour(rng, ["gray", "pink", "black", "white", "beige"])
    grains = noise(rng, rng.uniform(50, 110)) + 0.5 * noise(rng, 120)
    picture = lit(tone, 0.55 + 0.5 * grains)
    for _ in range(2):
        picture = paint(picture, colour(rng, ["black", "white", "pink", "gray"]), step(noise(rng, 60) - 0.8, 0.2))
    return surface(picture)


def felt(rng: Generator) -> Scene:
    tone, fibres = colour(rng), np.zeros((SIDE, SIDE), np.float32)
    for _ in range(14):
        x, y = rng.uniform(0, SIDE, 2)
        fibres = np.maximum(fibres, stroke(wander(rng, x, y, 60, 0.5, 8), 1))
    return surface(lit(tone, 0.6 + 0.3 * clouds(rng, 24, 3) + 0.15 * fibres + 0.25 * (noise(rng, SIDE) - 0.3)))


def camouflage(rng: Generator) -> Scene:
    picture = plain(colour(rng, ["green", "brown", "beige", "gray"]))
    scale = rng.uniform(3, 9)
    for _ in range(whole(rng, 2, 3)):
        picture = paint(
            picture, colour(rng, ["green", "brown", "beige", "black"]), step(clouds(rng, scale, 2) - 0.55, 0.03)
        )
    return surface(scaled(picture, 0.9 + 0.2 * noise(rng, 110)))


def bamboo_mat(rng: Generator) -> Scene:
    tone, (u, v), pitch = colour(rng, ["beige", "yellow", "brown", "green"]), axes(rng, 0.1), rng.uniform(7, 15)
    if chance(rng, 0.5):
        u, v = v, u
    slat = np.floor(u / pitch)
    round_ = 1 - zigzag(u / pitch + 0.5) ** 4
    thread = step(zigzag(v / rng.uniform(30, 50)) - 0.9, 0.06)
    picture = lit(tone, (0.35 + 0.5 * round_) * (0.8 + 0.35 * shades(rng, slat)) + 0.2 * noise(rng, 4, 50))
    return surface(paint(picture, tone * 0.4, 0.7 * thread))


def mosaic(rng: Generator) -> Scene:
    tone, (distance, index) = colour(rng), cells(rng, whole(rng, 30, 110))
    other, far = colour(rng), float(distance.max())
    pieces = blend(plain(tone), plain(other), shades(rng, index))
    ring = np.clip((far - distance) / far, 0, 1)
    return surface(scaled(pieces, 0.55 + 0.5 * ring))


def plaster(rng: Generator) -> Scene:
    tone = colour(rng, ["white", "beige", "gray", "yellow", "cyan"])
    height = clouds(rng, rng.uniform(8, 30), 3)
    light = (np.roll(height, 1, 0) - height) + (np.roll(height, 1, 1) - height)
    light[0], light[:, 0] = 0, 0
    return surface(lit(tone, 0.9 + rng.uniform(1.0, 3.0) * light + 0.1 * (clouds(rng, 3, 2) - 0.5)))


def rope(rng: Generator) -> Scene:
    tone, (u, v), pitch = (
        colour(rng, ["beige", "brown", "white", "blue", "orange"]),
        axes(rng, warp=3),
        rng.uniform(14, 28),
    )
    across = zigzag(u / pitch)
    strands = wave(v / rng.uniform(8, 14) + across * rng.uniform(0.6, 1.4))
    return surface(lit(tone, 0.25 + 0.4 * strands + 0.45 * across**0.5 + 0.15 * (noise(rng, 110) - 0.5)))


def parquet(rng: Generator) -> Scene:
    """Blocks of slats, turned by a quarter from block to block."""
    tone, (u, v), pitch = colour(rng, ["brown", "beige", "orange"]), axes(rng, 0.2), rng.uniform(26, 44)
    turned = (np.floor(u / pitch) + np.floor(v / pitch)) % 2 > 0
    along, slats = np.where(turned, u, v) / pitch, whole(rng, 2, 5)
    slat = np.floor(along * slats)
    block = np.floor(u / pitch) * 7 + np.floor(v / pitch) * 13
    gap = step(zigzag(along * slats) - 0.9, 0.08)
    grain = np.where(turned, noise(rng, 110, 6), noise(rng, 6, 110))
    return surface(lit(tone, (0.62 + 0.35 * shades(rng, slat + 5 * block) + 0.2 * grain) * (1 - 0.5 * gap)))


# ---- open: no name, any look -----------------------------------------------------------------------------------------


def _stripes(rng: Generator) -> Plane:
    (u, _), pitch = axes(rng, warp=rng.uniform(0, 14)), rng.uniform(4, 34)
    return step(wave(u / pitch) - rng.uniform(0.2, 0.8), rng.uniform(0.1, 1.5))


def _flow(rng: Generator) -> Plane:
    u, _ = axes(rng)
    return wave(u / rng.uniform(8, 60) + rng.uniform(0.5, 4) * clouds(rng, rng.uniform(2, 7), 3))


def _lattice(rng: Generator) -> Plane:
    """Discs, squares, diamonds or stars on a square or staggered lattice."""
    (u, v), pitch = axes(rng, warp=rng.uniform(0, 6)), rng.uniform(7, 32)
    u, v = u / pitch, v / pitch * rng.uniform(0.6, 1.5)
    u = u + 0.5 * whole(rng, 0, 1) * (np.floor(v) % 2)
    a, b = np.abs(u - np.floor(u) - 0.5), np.abs(v - np.floor(v) - 0.5)
    shape = whole(rng, 0, 4)
    distance = [np.hypot(a, b), np.maximum(a, b), a + b, np.minimum(a, b) * 2, np.sqrt(a * b) * 1.6][shape]
    return step(rng.uniform(0.15, 0.42) - distance, rng.uniform(0.06, 0.5))


def _checks(rng: Generator) -> Plane:
    (u, v), pitch = axes(rng, warp=rng.uniform(0, 5)), rng.uniform(7, 36)
    stagger = np.floor(u / pitch) + np.floor(v / (pitch * rng.uniform(0.5, 2))) * choose(rng, [1, 0.5])
    return (stagger % 2) if chance(rng, 0.5) else shades(rng, stagger * 3 + np.floor(v / pitch) * 17, whole(rng, 3, 64))


def _cell_distance(rng: Generator) -> Plane:
    distance = cells(rng, whole(rng, 25, 900))[0]
    return np.clip(distance / (float(distance.mean()) * rng.uniform(2, 3.5)), 0, 1) ** rng.uniform(0.5, 2)


def _cell_values(rng: Generator) -> Plane:
    return shades(rng, cells(rng, whole(rng, 25, 700))[1], whole(rng, 3, 1024))


def _scales(rng: Generator) -> Plane:
    """Overlapping rows of arcs."""
    (u, v), pitch = axes(rng, 0.3 if chance(rng, 0.5) else 3), rng.uniform(9, 26)
    row = np.floor(v / pitch * 2)
    a = u / pitch + 0.5 * (row % 2)
    return np.clip(np.hypot(a - np.floor(a) - 0.5, v / pitch * 2 - row) / 1.1, 0, 1) ** rng.uniform(0.6, 3)


def _crossing(rng: Generator) -> Plane:
    (u, v), pitch = axes(rng, warp=rng.uniform(0, 8)), rng.uniform(5, 26)
    other = pitch * rng.uniform(0.6, 1.7)
    a, b = wave(u / pitch), wave(v / other)
    plane: Plane = [a * b, np.maximum(a, b) ** 3, np.abs(a - b), 0.5 * (a + b)][whole(rng, 0, 3)]
    return plane


def _rings(rng: Generator) -> Plane:
    x, y = rng.uniform(-30, SIDE + 30, 2)
    bend = rng.uniform(0, 10) * noise(rng, rng.uniform(3, 8))
    return wave((np.hypot(X - float(x), Y - float(y)) + bend) / rng.uniform(7, 34))


def _clouds(rng: Generator) -> Plane:
    plane = clouds(rng, rng.uniform(2, 40), whole(rng, 1, 5), rng.uniform(0.4, 0.8))
    return step(plane - rng.uniform(0.4, 0.6), rng.uniform(0.05, 1.0))


def _streaks(rng: Generator) -> Plane:
    fine, coarse = rng.uniform(30, SIDE), rng.uniform(2, 12)
    return noise(rng, fine, coarse) if chance(rng, 0.5) else noise(rng, coarse, fine)


def _ridges(rng: Generator) -> Plane:
    return (1 - np.abs(np.sin(clouds(rng, rng.uniform(3, 12), 3) * rng.uniform(6, 18)))) ** rng.uniform(1, 8)


def _sprinkles(rng: Generator) -> Plane:
    distance, index = cells(rng, whole(rng, 15, 250))
    radius = rng.uniform(1.5, 5) * (0.6 + 0.8 * shades(rng, index))
    return step(radius - distance, 1.5)


def _speckle(rng: Generator) -> Plane:
    grain = soften(rng.random((SIDE, SIDE), dtype=np.float32), rng.uniform(0.5, 2.0))
    plane: Plane = np.clip(0.5 + (grain - 0.5) / float(grain.std()) * 0.2, 0, 1)
    return plane


FIELDS = (
    _stripes, _flow, _lattice, _checks, _cell_distance, _cell_values, _scales, _crossing, _rings, _clouds, _streaks,
    _ridges, _sprinkles, _speckle,
)  # fmt: skip


def any_field(rng: Generator) -> Plane:
    """A field of the grammar: one of the simple ones, or two joined by product, extremum, sum or a third one."""
    field = choose(rng, FIELDS)(rng)
    if chance(rng, 0.55):
        return field
    other = choose(rng, FIELDS)(rng)
    join = whole(rng, 0, 4)
    plane: Plane
    if join == 0:
        plane = field * other
    elif join == 1:
        plane = np.maximum(field, other)
    elif join == 2:
        share = rng.uniform(0.25, 0.75)
        plane = share * field + (1 - share) * other
    elif join == 3:
        plane = np.abs(field - other)
    else:
        mask = _clouds(rng)
        plane = field * mask + other * (1 - mask)
    return plane


def any_texture(rng: Generator) -> Scene:
    """A texture of the open grammar: a field seen through a palette of two to four colours, with fine grain."""
    tones, field = [colour(rng)], np.clip(any_field(rng), 0, 1)
    if chance(rng, 0.5):  # shades of one colour
        tones += [np.clip(tones[0] * rng.uniform(0.3, 1.7), 0, 1) for _ in range(whole(rng, 1, 2))]
    else:
        tones += [colour(rng) for _ in range(whole(rng, 1, 3))]
    depth = rng.uniform(0.3, 1)
    picture = plain(tones[0])
    for number, tone in enumerate(tones[1:]):
        share = np.clip(field * (len(tones) - 1) - number, 0, 1)
        picture = paint(picture, tone, share * depth)
    if chance(rng, 0.3):  # a second, fainter layer
        picture = paint(picture, colour(rng), np.clip(any_field(rng), 0, 1) * rng.uniform(0.1, 0.5))
    return surface(scaled(picture, 0.9 + 0.2 * noise(rng, rng.uniform(4, SIDE))))
