"""The procedural images as a dataset: any example alone, from its split, category, state and number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from cops_lightning.core.errors import DatasetError
from cops_lightning.demo.canvas import SIDE
from cops_lightning.demo.catalog import (
    CATEGORIES,
    LIGHTING,
    CategorySpec,
    Difficulty,
    Split,
    categories,
    defects_of,
)
from cops_lightning.demo.imaging import STUDIO, Lighting, Pixels, expose
from cops_lightning.demo.sampling import Mask, Streams, afflict, normal_scene

VERSION = 1  # goes up whenever any image of any key changes
GOOD = "good"

Role = Literal["train", "normal", "anomalous"]


@dataclass(frozen=True)
class Example:
    """One image with its truth. `defect` is "good" for a normal image, whose mask is empty. `key` names it."""

    image: Pixels
    mask: Mask
    anomalous: bool
    defect: str
    category: str
    key: str


def lighting_of(category: CategorySpec) -> Lighting:
    """Studio light for what one learns from, and the light of its difficulty for a test category."""
    return STUDIO if category.difficulty is None else LIGHTING[category.difficulty]


def example(category: str, role: Role, number: int, seed: int = 0) -> Example:
    """Image `number` of a category: a function of the arguments, whatever else is rendered, where and when.

    `train` and `normal` images are both normal, of separate streams. Raises DatasetError for an unknown category.
    """
    spec = CATEGORIES.get(category)
    if spec is None:
        raise DatasetError(
            f"There is no procedural category {category!r}. Expected one of the {len(CATEGORIES)} in "
            "cops_lightning.demo.CATEGORIES."
        )
    streams = Streams.of(seed, f"{category}/{role}", number)
    scene = normal_scene(streams.scene, spec)
    picture, mask, defect = scene.picture, np.zeros((SIDE, SIDE), bool), GOOD
    if role == "anomalous":
        picture, mask, defect = afflict(streams.defect, scene, defects_of(spec))
    (image,) = expose(streams.light, (picture,), lighting_of(spec))
    return Example(image, mask, role == "anomalous", defect, category, f"procedural/{category}/{role}/{seed}/{number}")


class ProceduralDataset(Sequence[Example]):
    """The test images of a split, optionally of one difficulty: per category first normal ones, then anomalous ones."""

    def __init__(
        self, split: Split, difficulty: Difficulty | None = None, normal: int = 100, anomalous: int = 100, seed: int = 0
    ):
        chosen = categories(split, difficulty)
        if not chosen:
            raise DatasetError(
                f"The {split} split has no {difficulty} categories. Only the test split is divided by difficulty."
            )
        roles: tuple[tuple[Role, int], ...] = (("normal", normal), ("anomalous", anomalous))
        self.categories = tuple(spec.name for spec in chosen)
        self.seed = seed
        self._index = [(name, role, i) for name in self.categories for role, count in roles for i in range(count)]

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, item: int) -> Example: ...
    @overload
    def __getitem__(self, item: slice) -> list[Example]: ...
    def __getitem__(self, item: int | slice) -> Example | list[Example]:
        if isinstance(item, slice):
            return [example(*key, self.seed) for key in self._index[item]]
        return example(*self._index[item], self.seed)
