"""Heat maps to look at: one image in detail, or a contact sheet of a target. PNG files, one colour scale for all.

Colours mean the same in every figure: the scale is given, printed, and never fitted to the image at hand. Figures are
drawn by matplotlib's object interface, without its global state, so they may be drawn anywhere, also in threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage

DPI = 100
COLORS = "inferno"
OPACITY = 0.55
OUTLINE = "cyan"
LABEL_COLORS = {False: "#1b7837", True: "#b2182b"}


@dataclass(frozen=True)
class Example:
    """An evaluated image. Mask and map may have another size than the image; they are stretched over it.

    `mask` is None where the dataset has none. `map` holds probabilities, `score` is that of the image.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "mask_h mask_w"] | None
    map: Float[np.ndarray, "map_h map_w"]
    score: float
    anomalous: bool

    @property
    def caption(self) -> str:
        """Ground truth and score."""
        return f"{'anomalous' if self.anomalous else 'normal'}, score {self.score:.3f}"


def choose_examples(anomalous: Sequence[bool], n_normal: int = 4, n_anomalous: int = 8) -> list[int]:
    """Indices of images for a contact sheet: normal first, each kind spread evenly over the sequence."""
    chosen: list[int] = []
    for label, n in ((False, n_normal), (True, n_anomalous)):
        indices = [index for index, is_anomalous in enumerate(anomalous) if is_anomalous == label]
        n = min(n, len(indices))
        chosen += [indices[(2 * k + 1) * len(indices) // (2 * n)] for k in range(n)]
    return chosen


def save_heat_map(path: Path, example: Example, vmin: float = 0.0, vmax: float = 1.0) -> None:
    """Draw image, ground truth and anomaly map of one image side by side. The colours span `vmin` to `vmax`."""
    scale = _Scale(vmin, vmax)
    height, width = example.image.shape[:2]
    panel = 3.2
    figure = Figure(figsize=(3 * panel + 1.1, panel * min(max(height / width, 0.5), 1.5) + 0.8), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(example.image)
    _draw_mask(axes[1], example)
    _draw_overlay(axes[2], example, scale)
    for ax, title in zip(axes, ("image", "ground truth", "anomaly map"), strict=True):
        _frame(ax, title, fontsize=10)
    _draw_colors(figure, scale, [example], cax=axes[2].inset_axes((1.03, 0, 0.05, 1)))
    figure.suptitle(f"{_tail(example.name, 80)}\n{example.caption}", fontsize=11, parse_math=False)
    _save(figure, path)


def save_contact_sheet(
    path: Path, examples: Sequence[Example], title: str, vmin: float = 0.0, vmax: float = 1.0, columns: int = 4
) -> None:
    """Draw several images, each beside its anomaly map, the defect outlined in the image. At least one example.

    Normal images come first, anomalous ones start a new row. The colours span `vmin` to `vmax`.
    """
    scale = _Scale(vmin, vmax)
    rows = [
        kind[start : start + columns]
        for kind in ([e for e in examples if not e.anomalous], [e for e in examples if e.anomalous])
        for start in range(0, len(kind), columns)
    ]
    if not rows:
        raise ValueError(f"A contact sheet needs at least one example, got none for {title!r}.")
    columns = max(map(len, rows))
    figure = Figure(figsize=(3.3 * columns + 0.9, 1.95 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 3 * columns - 1, width_ratios=[1, 1, 0.1] * (columns - 1) + [1, 1], squeeze=False)
    for ax in axes.flat:
        _frame(ax, "")
        ax.set_anchor("NW")
    for row, line in enumerate(rows):
        for column, example in enumerate(line):
            left, right = axes[row, 3 * column], axes[row, 3 * column + 1]
            left.imshow(example.image)
            _draw_outline(left, example)
            _draw_overlay(right, example, scale)
            caption = f"{_tail(example.name, 46)}\n{example.caption}"
            color = LABEL_COLORS[example.anomalous]
            _frame(left, caption, fontsize=8, loc="left", color=color, parse_math=False)
    _draw_colors(figure, scale, examples, ax=axes, fraction=0.05, pad=0.02, panchor=False)
    figure.suptitle(title, fontsize=12, parse_math=False)
    _save(figure, path)


def blend(
    image: UInt8[np.ndarray, "h w 3"], map: Float[np.ndarray, "h w"], vmax: float, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """An image with its map over it, the more opaque the higher: from `vmax` on by `strength`."""
    painted, share = painted_map(map, vmax)
    opacity = (strength * share)[..., None]
    mixed: np.ndarray = (image * (1 - opacity) + painted * opacity).round().astype(np.uint8)
    return mixed


def painted_map(
    map: Float[np.ndarray, "h w"], vmax: float
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """The colours of a map, from 0 to 255, and how opaque each is: from 0, where the map is 0, to 1 from `vmax` on.

    The root lets low values show, which are all that a map has on a scale that is not fitted to it.
    """
    share = np.clip(map / vmax, 0, 1)
    colors = (255 * colormaps[COLORS](np.linspace(0, 1, 256))[:, :3]).astype(np.float32)
    return colors[(share * 255).astype(np.uint8)], np.sqrt(share)


@dataclass(frozen=True)
class _Scale:
    """The scores that have colours."""

    vmin: float
    vmax: float

    def __post_init__(self) -> None:
        if not self.vmin < self.vmax:
            raise ValueError(f"The colour scale needs vmin < vmax, got {self.vmin} and {self.vmax}.")

    @property
    def norm(self) -> Normalize:
        return Normalize(self.vmin, self.vmax, clip=True)


def _extent(example: Example) -> tuple[float, float, float, float]:
    """The frame of the image, over which mask and map are stretched: left, right, bottom, top."""
    height, width = example.image.shape[:2]
    return (-0.5, width - 0.5, height - 0.5, -0.5)


def _frame(ax: Axes, title: str, **style: Any) -> None:
    """Nothing around an image but its title, at a height of its own: else hidden ticks are laid out to place it."""
    ax.set_axis_off()
    ax.set_title(title, y=1.0, **style)


def _draw_mask(ax: Axes, example: Example) -> None:
    if example.mask is None:
        ax.imshow(np.full((1, 1), 0.9), extent=_extent(example), cmap="gray", vmin=0, vmax=1)
        ax.text(0.5, 0.5, "no mask", transform=ax.transAxes, ha="center", va="center", fontsize=12, color="0.35")
    else:
        ax.imshow(example.mask, extent=_extent(example), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _draw_outline(ax: Axes, example: Example) -> None:
    if example.mask is None or not example.mask.any():
        return
    height, width = example.image.shape[:2]
    mask_height, mask_width = example.mask.shape
    gap = 1 + round(0.015 * max(mask_height, mask_width))  # between defect and outline, so that small defects show
    around = ndimage.binary_dilation(np.pad(example.mask, 1 + gap), iterations=gap)  # padded to close at the border
    x = (np.arange(around.shape[1]) - gap - 0.5) * width / mask_width - 0.5
    y = (np.arange(around.shape[0]) - gap - 0.5) * height / mask_height - 0.5
    ax.contour(x, y, around.astype(float), levels=[0.5], colors=OUTLINE, linewidths=0.9)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _draw_overlay(ax: Axes, example: Example, scale: _Scale) -> None:
    """The image in grey, so that every colour is the map's."""
    grey = example.image @ np.array([0.299, 0.587, 0.114])
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255)
    ax.imshow(
        example.map, extent=_extent(example), cmap=COLORS, norm=scale.norm, alpha=OPACITY, interpolation="bilinear"
    )


def _draw_colors(figure: Figure, scale: _Scale, examples: Sequence[Example], **place: Any) -> None:
    """The colour bar, with arrows where a map leaves the scale. `place` says where, as in `Figure.colorbar`."""
    below = any(example.map.min() < scale.vmin for example in examples)
    above = any(example.map.max() > scale.vmax for example in examples)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    bar = figure.colorbar(ScalarMappable(scale.norm, COLORS), extend=extend, **place)
    bar.set_ticks(np.linspace(scale.vmin, scale.vmax, 6).tolist())
    bar.set_label("anomaly score of a pixel", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _tail(name: str, length: int) -> str:
    """The end of a long name, which tells images apart."""
    return name if len(name) <= length else "\N{HORIZONTAL ELLIPSIS}" + name[1 - length :]


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(DPI)
    # `savefig` would draw it twice.
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # type: ignore[no-untyped-call]
