"""What the page shows when nothing is given: the packaged detector, rendered examples, and their calibration."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from cops_lightning.clip.weight_files import PACKAGED
from cops_lightning.demo import images
from cops_lightning.models.detector import Detector
from cops_lightning.models.load import load

# CoPS over `mini`, trained by cops-train with its defaults; see demo/mini/README.md.
WEIGHTS = Path(images.__file__).parent / "mini" / "cops.pth"
KINDS = ("leather", "ceramic tile")  # the process that the demonstration is calibrated for: these two in equal numbers
CALIBRATION = 20  # normal images of each


@dataclass(frozen=True)
class Example:
    """A rendered image. `truth` says what is wrong with it: "good", or the name of a defect."""

    name: str
    truth: str
    image: Image.Image


def load_demonstration(device: str | torch.device = "cpu") -> Detector:
    """The packaged detector."""
    return load(WEIGHTS, auxiliary="procedural", backbone="mini", device=device)


def is_demonstration(detector: Detector) -> bool:
    """Whether its CLIP is a packaged one, of which nothing follows for a real CLIP."""
    return detector.backbone.record.name.startswith(PACKAGED)


def examples() -> list[Example]:
    """Rendered images of both kinds, normal and anomalous, always the same ones."""
    found: list[Example] = []
    shown: tuple[tuple[images.Role, int], ...] = (("anomalous", 0), ("normal", 0), ("anomalous", 3))
    for kind in KINDS:
        for role, number in shown:
            made = images.example(kind, role, number)
            found.append(Example(f"{kind} {len(found) + 1}", made.defect, Image.fromarray(made.image)))
    return found


def normal_images() -> list[Image.Image]:
    """Rendered normal images of both kinds, none of which is an example."""
    return [Image.fromarray(images.example(kind, "train", n).image) for n in range(CALIBRATION) for kind in KINDS]
