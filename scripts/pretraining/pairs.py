"""Both versions of one scene."""

from collections.abc import Sequence
from dataclasses import dataclass

from cops_lightning.demo.catalog import CategorySpec, DefectSpec
from cops_lightning.demo.images import Lighting, Mask, Pixels, Streams, afflict, expose, normal_scene


@dataclass(frozen=True)
class Pair:
    """A normal image, the same image with a defect, and where that is."""

    normal: Pixels
    anomalous: Pixels
    mask: Mask
    defect: str


def render_pair(
    seed: int, category: CategorySpec, index: int, choices: Sequence[DefectSpec], lighting: Lighting
) -> Pair:
    """Both versions of one scene under the same light and with the same noise."""
    streams = Streams.of(seed, category.name, index)
    scene = normal_scene(streams.scene, category)
    picture, mask, defect = afflict(streams.defect, scene, choices)
    normal, anomalous = expose(streams.light, (scene.picture, picture), lighting)
    return Pair(normal, anomalous, mask, defect)
