"""What a detector reads of the frozen image tower, said once: encoder, stored features and detector agree by it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from cops_lightning.core.choices import require_choices
from cops_lightning.core.errors import ConfigError

PatchSpace = Literal["joint", "tower"]
TowerActivation = Literal["own", "gelu"]
Positions = Literal["bilinear", "bicubic", "bicubic antialias"]


class TowerSizes(NamedTuple):
    """Of an image tower at an image size: blocks, patches, and the widths W of the tower and D of the joint space."""

    blocks: int
    patches: int
    tower: int
    joint: int


@dataclass(frozen=True)
class FeatureRequest:
    """Which features of an image a detector reads. The defaults are those of CoPS.

    Equal requests share stored features; others never do. Raises ConfigError for values that make no sense.

    Args:
        layers: blocks after which patches are read, counted from 1, in order of depth and each once; the patches then
            have an axis of layers. None is the last block alone, without that axis.
        values_from: the value path starts from the tokens after this block (0: those that enter the first), and only
            adds value-value attention. Up to this block, patches are those of the original path. None is the original
            path throughout.
        patch_space: patches with `ln_post` in the joint space (width D), or as they are in the tower (width W).
        global_norm: whether the global feature, the class token of the original path, goes through `ln_post`, as CLIP's
            own does.
        activation: in the tower's MLPs: the backbone's own, or the exact GELU whatever the backbone's.
        positions: how position embeddings are resized to the patch grid.
    """

    layers: tuple[int, ...] | None = None
    values_from: int | None = 0
    patch_space: PatchSpace = "joint"
    global_norm: bool = False
    activation: TowerActivation = "own"
    positions: Positions = "bilinear"

    def __post_init__(self) -> None:
        require_choices("request", self)
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))

    def require_blocks(self, blocks: int) -> None:
        """Raise ConfigError unless a tower of so many blocks has what is read."""
        if self.layers and not 1 <= self.layers[0] <= self.layers[-1] <= blocks:
            raise ConfigError(f"Layers {list(self.layers)} are to be read; the image tower has layers 1 to {blocks}.")
        if self.values_from is not None and not 0 <= self.values_from <= blocks:
            raise ConfigError(
                f"The value path is to start after layer {self.values_from}; the image tower has layers 1 to {blocks}."
            )

    def read(self, blocks: int) -> tuple[int, ...]:
        """The layers that are read of a tower of so many blocks."""
        return (blocks,) if self.layers is None else self.layers

    def reads_original(self, block: int) -> bool:
        """Whether patches of the original path are read after this block, of a tower that may end with it."""
        return block in self.read(block) and (self.values_from is None or block <= self.values_from)

    def patch_shape(self, tower: TowerSizes) -> tuple[int, ...] | None:
        """The shape of an image's patches, None where it is that of the defaults: (patches, width of joint space)."""
        if self.layers is None and self.patch_space == "joint":
            return None
        taps = () if self.layers is None else (len(self.layers),)
        return (*taps, tower.patches, tower.joint if self.patch_space == "joint" else tower.tower)

    def words(self) -> str:
        """What differs from the defaults, for the key of stored features; "" where nothing does."""
        return "".join(f", {name} {value}" for name, value in self._departures())

    def _departures(self) -> Iterator[tuple[str, object]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield field.name, list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class WindowRequest:
    """CLIP's own feature of an image, and of every square window of its patches, as `clip.windows` has them.

    In `Features.patches` windows take the place of patches: in the order of `sides`, those of a side in the order of
    `clip.windows.square_windows`.

    Args:
        sides: of the windows, in patches.
    """

    sides: tuple[int, ...]

    def patch_shape(self, tower: TowerSizes) -> tuple[int, ...]:
        """The shape of an image's windows: (windows, width of joint space)."""
        grid = math.isqrt(tower.patches)
        return (sum((grid - side + 1) ** 2 for side in self.sides), tower.joint)

    def words(self) -> str:
        """What is read, for the key of stored features."""
        return f", windows {list(self.sides)}"


Request = FeatureRequest | WindowRequest
DEFAULT = FeatureRequest()
