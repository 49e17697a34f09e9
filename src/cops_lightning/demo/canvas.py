"""What every renderer draws with: fields, colours, shapes and blending, on a canvas of SIDE pixels.

A field is a plane of values near [0, 1]; a coverage is a field that says how much of a pixel a shape covers. Positions
are (x, y) in pixels, angles in radians, colours RGB in [0, 1]. Every function draws from the generator it is given and
from nothing else, so an image is a function of its generator's seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Float
from numpy.random import Generator

cv2.setNumThreads(0)  # one image is too small to share; callers run one process per core

SIDE = 128
TAU = 2 * np.pi
X, Y = (axis.astype(np.float32) for axis in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
FULL: "Plane" = np.ones((SIDE, SIDE), np.float32)

Plane = Float[np.ndarray, "s s"]
Picture = Float[np.ndarray, "s s 3"]
Colour = Float[np.ndarray, "3"]
Points = Float[np.ndarray, "n 2"]
Number = int | float  # so that a caller may write 3 for 3.0
T = TypeVar("T")

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.75, 0.15, 0.13),
    "green": (0.20, 0.55, 0.25),
    "blue": (0.16, 0.30, 0.70),
    "yellow": (0.87, 0.78, 0.20),
    "orange": (0.90, 0.50, 0.14),
    "brown": (0.45, 0.28, 0.15),
    "black": (0.12, 0.12, 0.13),
    "white": (0.92, 0.92, 0.90),
    "gray": (0.52, 0.53, 0.54),
    "purple": (0.50, 0.25, 0.60),
    "pink": (0.88, 0.55, 0.60),
    "beige": (0.82, 0.74, 0.60),
    "cyan": (0.20, 0.68, 0.72),
    "silver": (0.70, 0.71, 0.73),
}
METALS = ("silver", "gray", "orange", "black", "yellow")


# ---- draws -----------------------------------------------------------------------------------------------------------


def chance(rng: Generator, probability: Number) -> bool:
    """True with the given probability."""
    return rng.random() < probability


def whole(rng: Generator, low: int, high: int) -> int:
    """An integer of low .. high, both included, as a Python int: it does not widen float32 arrays."""
    return int(rng.integers(low, high + 1))


def choose(rng: Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


# ---- colours ---------------------------------------------------------------------------------------------------------


def colour(rng: Generator, names: Sequence[str] = (), jitter: Number = 0.08) -> Colour:
    """A shade of one of the named colours, or of any colour."""
    centre = np.array(COLOURS[choose(rng, names or tuple(COLOURS))], np.float32)
    shade = rng.uniform(-jitter, jitter, 3).astype(np.float32) * 0.6 + rng.uniform(-jitter, jitter)
    return np.clip(centre + shade, 0.02, 0.98)


def colour_unlike(rng: Generator, other: Colour, names: Sequence[str] = (), distance: Number = 0.28) -> Colour:
    """A colour that stands out from `other` where eight draws suffice to find one."""
    for _ in range(8):
        found = colour(rng, names)
        if float(np.abs(found - other).mean()) > distance:
            break
    return found


def plain(tone: Any) -> Picture:
    """A picture of one colour."""
    return lit(tone, FULL)


def lit(tone: Any, brightness: Plane) -> Picture:
    """One colour under varying brightness."""
    red, green, blue = np.asarray(tone, np.float32).tolist()
    drawn: Picture = cv2.merge((brightness * red, brightness * green, brightness * blue))
    return drawn


def scaled(picture: Picture, factor: Plane) -> Picture:
    """A picture times a plane."""
    return picture * cv2.merge((factor, factor, factor))


def _window(coverage: Plane) -> tuple[slice, slice]:
    """The smallest rectangle outside which nothing is covered."""
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    if len(rows) == 0:
        return slice(0), slice(0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def blend(below: Picture, above: Picture, coverage: Plane) -> Picture:
    """`above` laid over `below` where `coverage` is 1."""
    at, out = _window(coverage), below.copy()
    out[at] += (above[at] - below[at]) * cv2.merge((coverage[at],) * 3) if coverage[at].size else 0
    return out


def paint(below: Picture, tone: Any, coverage: Plane) -> Picture:
    """One colour laid over a picture where `coverage` is 1."""
    at, out = _window(coverage), below.copy()
    for channel, value in enumerate(np.asarray(tone, np.float32).tolist()):
        part = out[..., channel][at]
        part += (value - part) * coverage[at]
    return out


# ---- fields ----------------------------------------------------------------------------------------------------------


def noise(rng: Generator, columns: Number, rows: Number | None = None) -> Plane:
    """Smooth noise: random values on a coarse grid, interpolated bicubically."""
    nx = max(2, int(columns))
    ny = max(2, int(columns if rows is None else rows))
    return cv2.resize(rng.random((ny, nx), dtype=np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def clouds(rng: Generator, columns: Number, octaves: int = 4, gain: Number = 0.55) -> Plane:
    """Noise summed over octaves, each twice as fine and `gain` times as strong as the one before."""
    total, weight, amplitude = np.zeros((SIDE, SIDE), np.float32), 0.0, 1.0
    for _ in range(octaves):
        if columns > SIDE:
            break
        total += amplitude * noise(rng, columns)
        weight, amplitude, columns = weight + amplitude, amplitude * gain, columns * 2
    return total / weight


def axes(rng: Generator, spread: Number = np.pi, warp: Number = 0.0) -> tuple[Plane, Plane]:
    """Coordinates in pixels, turned by up to `spread`, shifted at random and bent by up to `warp` pixels."""
    angle = rng.uniform(-spread, spread)
    dx, dy = X - SIDE / 2 + rng.uniform(-64, 64), Y - SIDE / 2 + rng.uniform(-64, 64)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    u, v = c * dx + s * dy, c * dy - s * dx
    if warp:
        u, v = u + warp * (noise(rng, 4) - 0.5), v + warp * (noise(rng, 4) - 0.5)
    return u, v


def wave(x: Plane) -> Plane:
    """A sine of period 1 between 0 and 1."""
    return 0.5 + 0.5 * np.sin(TAU * x)


def zigzag(x: Plane) -> Plane:
    """A triangle of period 1: 1 at whole numbers, 0 half way between."""
    plane: Plane = np.abs(x - np.floor(x) - 0.5) * 2
    return plane


def step(x: Plane, softness: Number = 0.08) -> Plane:
    """0 below zero, 1 above, linear within `softness`."""
    return np.clip(x / softness + 0.5, 0, 1)


def cells(rng: Generator, count: int) -> tuple[Plane, Any]:
    """Distance to the nearest of `count` random points, in pixels, and which point that is."""
    holes = np.full((SIDE, SIDE), 255, np.uint8)
    at = rng.integers(0, SIDE, (count, 2))
    holes[at[:, 0], at[:, 1]] = 0
    return cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)


def relative_distance(rng: Generator, count: int) -> Plane:
    """Distance to the nearest of `count` random points, softened; its mean is one half."""
    distance = soften(cells(rng, count)[0], 0.8)
    plane: Plane = distance / (2 * float(distance.mean()))
    return plane


def shades(rng: Generator, index: Any, count: int = 1024) -> Plane:
    """A random value per index."""
    return rng.random(count, dtype=np.float32)[np.asarray(index).astype(np.int32) % count]


def soften(plane: Any, sigma: Number) -> Any:
    """Gaussian blur."""
    return cv2.GaussianBlur(plane, (0, 0), sigma)


# ---- shapes ----------------------------------------------------------------------------------------------------------


def polygon(points: Any) -> Plane:
    """Coverage of a filled polygon, anti-aliased."""
    board = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(board, [np.round(np.asarray(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return board.astype(np.float32) / 255


def stroke(points: Any, width: Number) -> Plane:
    """Coverage of an open line through the points; the width is rounded to whole pixels, at least one."""
    board = np.zeros((SIDE, SIDE), np.uint8)
    at = np.round(np.asarray(points) * 16).astype(np.int32)
    cv2.polylines(board, [at], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    return board.astype(np.float32) / 255


def ellipse(x: Number, y: Number, a: Number, b: Number | None = None, angle: Number = 0.0) -> Plane:
    """Coverage of an ellipse with half axes a and b."""
    board = np.zeros((SIDE, SIDE), np.uint8)
    half = (max(1, int(a * 16)), max(1, int((a if b is None else b) * 16)))
    cv2.ellipse(board, (int(x * 16), int(y * 16)), half, float(np.degrees(angle)), 0, 360, 255, -1, cv2.LINE_AA, 4)
    return board.astype(np.float32) / 255


def blob(
    rng: Generator,
    x: Number,
    y: Number,
    radius: Number,
    stretch: Number = 0.0,
    rough: Number = 0.9,
    soft: Number = 0.12,
) -> Plane:
    """Coverage of an irregular patch. `stretch` is the ratio of its axes (0: a random one), `rough` bends its rim."""
    angle, stretch = rng.uniform(0, np.pi), stretch or rng.uniform(1, 2)
    dx, dy, c, s = X - x, Y - y, float(np.cos(angle)), float(np.sin(angle))
    a, b = radius * stretch**0.5, radius / stretch**0.5
    distance = np.hypot((c * dx + s * dy) / a, (c * dy - s * dx) / b)
    return step(1 - distance + rough * (noise(rng, rng.uniform(5, 14)) - 0.5), 2 * soft)


def wander(
    rng: Generator, x: Number, y: Number, length: Number, bend: Number, steps: int, angle: Number | None = None
) -> Points:
    """A path of `length` pixels from (x, y) whose direction changes by up to `bend` at every step."""
    start = rng.uniform(0, TAU) if angle is None else angle
    angles = start + np.cumsum(rng.uniform(-bend, bend, steps))
    moves = length / steps * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.concatenate([[[x, y]], np.array([x, y]) + np.cumsum(moves, 0)])


def regular(corners: int, radius: Number = 1.0, phase: Number = 0.0) -> Points:
    """The corners of a regular polygon around the origin."""
    angle = phase + np.arange(corners) * TAU / corners
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def contour(radius: Callable[[Any], Any], corners: int = 72) -> Points:
    """A closed outline given by its radius as a function of the angle."""
    angle = np.arange(corners) * TAU / corners
    placed: Points = radius(angle)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return placed


@dataclass(frozen=True)
class Pose:
    """Where an object lies: its own coordinates span about [-1, 1]; `radius` is the unit in pixels."""

    centre: tuple[float, float]
    radius: float
    angle: float

    @classmethod
    def draw(cls, rng: Generator, low: Number = 38, high: Number = 54, spread: Number = np.pi) -> "Pose":
        """A pose of radius low to high, turned by up to `spread`, that keeps most of the object on the canvas."""
        radius = rng.uniform(low, high)
        room = max(2.0, SIDE / 2 - 0.95 * radius) * 0.6
        centre = (SIDE / 2 + rng.uniform(-room, room), SIDE / 2 + rng.uniform(-room, room))
        return cls(centre, radius, rng.uniform(-spread, spread))

    def __call__(self, points: Any) -> Points:
        """Own coordinates to pixels."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        placed: Points = np.asarray(points, float) @ np.array([[c, s], [-s, c]]) * self.radius + self.centre
        return placed

    def local(self) -> tuple[Plane, Plane]:
        """Own coordinates of every pixel."""
        dx, dy = (X - self.centre[0]) / self.radius, (Y - self.centre[1]) / self.radius
        c, s = float(np.cos(self.angle)), float(np.sin(self.angle))
        return c * dx + s * dy, c * dy - s * dx

    def polygon(self, points: Any) -> Plane:
        """Coverage of a polygon in own coordinates."""
        return polygon(self(points))

    def stroke(self, points: Any, width: Number) -> Plane:
        """Coverage of a line in own coordinates, `width` in pixels."""
        return stroke(self(points), width)

    def ellipse(self, x: Number, y: Number, a: Number, b: Number | None = None, angle: Number = 0.0) -> Plane:
        """Coverage of an ellipse in own coordinates."""
        px, py = self([[x, y]])[0]
        return ellipse(px, py, a * self.radius, (a if b is None else b) * self.radius, self.angle + angle)

    def box(self, x0: Number, y0: Number, x1: Number, y1: Number) -> Plane:
        """Coverage of a rectangle in own coordinates."""
        return self.polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])

    def bar(self, x0: Number, y0: Number, x1: Number, y1: Number) -> Plane:
        """Coverage of a rectangle with semicircular ends (left and right) in own coordinates."""
        half, middle = (y1 - y0) / 2, (y0 + y1) / 2
        ends = np.maximum(self.ellipse(x0 + half, middle, half), self.ellipse(x1 - half, middle, half))
        plane: Plane = np.maximum(self.box(x0 + half, y0, x1 - half, y1), ends)
        return plane


# ---- scenes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A rendered normal picture and the coverage of what is looked at (1 everywhere for a texture)."""

    picture: Picture
    subject: Plane


def ground(rng: Generator) -> tuple[Picture, Colour]:
    """A background for objects, and its colour: plain, cloudy or grainy."""
    tone, kind = colour(rng), rng.random()
    if kind < 0.35:
        return plain(tone), tone
    if kind < 0.7:
        return lit(tone, 0.8 + 0.4 * clouds(rng, 3)), tone
    return lit(tone, 0.85 + 0.3 * noise(rng, SIDE)), tone


def relief(rng: Generator, picture: Picture, subject: Plane, strength: Number = 0.35) -> Picture:
    """Light from one side on the rim of the subject."""
    soft, angle = soften(subject, 5), rng.uniform(0, TAU)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return scaled(picture, 1 + 2 * strength * (float(np.cos(angle)) * dx + float(np.sin(angle)) * dy))


def place(rng: Generator, below: Picture, above: Picture, subject: Plane) -> Scene:
    """An object on its background, with a soft shadow."""
    shift = (whole(rng, -4, 4), whole(rng, -4, 4))
    shadow = np.roll(soften(subject, 3), shift, (0, 1))
    return Scene(blend(scaled(below, 1 - 0.45 * shadow), above, subject), subject)


def surface(picture: Picture) -> Scene:
    """A texture, which is looked at everywhere."""
    return Scene(picture, FULL)


def scan(picture: Picture, subject: Plane) -> Scene:
    """The subject on black, as in scans."""
    return Scene(blend(plain((0.03, 0.03, 0.03)), picture, subject), subject)


def finish(rng: Generator, below: Picture, above: Picture, subject: Plane, strength: Number = 0.35) -> Scene:
    """An object in relief on its background."""
    return place(rng, below, relief(rng, above, subject, strength), subject)


def gloss(pose: Pose, picture: Picture, across: Number = 1.0) -> Picture:
    """A highlight along the axis of a round body."""
    _, y = pose.local()
    return scaled(picture, 0.65 + 0.5 * np.clip(1 - np.abs(y / across + 0.25), 0, 1))
