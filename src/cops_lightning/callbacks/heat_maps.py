"""Heat maps of the tested images, as pictures in the run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cops_lightning.callbacks.run import RunCallback, decorating
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import replacing
from cops_lightning.core.names import file_name, file_names, printable
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.data.dataset import AnomalyDataset
from cops_lightning.data.readers.images import Orientation, read_image
from cops_lightning.models.module import CopsModule, ScoredImage
from cops_lightning.report.figures import Example, choose_examples, save_contact_sheet, save_heat_map

SHOWN_SIDE = 512  # longest side of the image in a heat map, in pixels: as much as a figure shows


class HeatMaps(RunCallback, Callback):
    """Draws heatmaps/TARGET/IMAGE.png and a contact sheet heatmaps/TARGET.png once all targets are tested.

    Args:
        folder: below which heatmaps/ is made; default: the trainer's root folder.
        count: heat maps per target, a third of them of normal images. Raises ConfigError if it is negative.
        scale_min: the score at the lower end of the one colour scale of all.
        scale_max: the score at its upper end. Raises ConfigError if it is not above the lower one.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        count: Annotated[int, Ge(0)] = 12,
        scale_min: float = 0.0,
        scale_max: float = 1.0,
    ) -> None:
        if count < 0:
            raise ConfigError(f"count is {count}; expected how many heat maps to draw of a target, 0 for none.")
        if not scale_min < scale_max:
            raise ConfigError(f"scale_max is {scale_max} and scale_min {scale_min}; expected a scale that goes up.")
        self.folder, self.count, self.scale = folder, count, (scale_min, scale_max)
        self.examples: dict[str, list[Example]] = {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw. What cannot be drawn is a warning."""
        assert isinstance(pl_module, CopsModule)
        self.examples = {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = pl_module.images_of_all()
        if not trainer.is_global_zero or self.count == 0 or not isinstance(data, AnomalyDataModule):
            return
        names = file_names(target.name for target in data.targets)
        for target, scored in zip(data.targets, images, strict=True):
            with decorating(f"The heat maps of {target.name}"):
                sheet = self.drawn(trainer) / f"{names[target.name]}.png"
                self.examples[target.name] = self._draw(sheet, target.name, data.dataset(target), scored, pl_module)

    def drawn(self, trainer: Trainer) -> Path:
        """The folder of the pictures."""
        return self.folder_of(trainer) / "heatmaps"

    def _draw(
        self, sheet: Path, target: str, dataset: AnomalyDataset, images: Sequence[ScoredImage], module: CopsModule
    ) -> list[Example]:
        """A third of the heat maps for normal images, the rest for anomalous ones, and beside their folder a sheet."""
        normal = self.count // 3
        chosen = choose_examples([bool(image.sample.anomalous) for image in images], normal, self.count - normal)
        # The ground truth that is shown is the one that was scored: the same threshold and size.
        examples = [_example(images[i], dataset[i].mask, dataset.preprocess.orientation, module) for i in chosen]
        low, high = self.scale
        for name, example in zip(_file_names([images[i].sample.key for i in chosen]), examples, strict=True):
            with replacing(sheet.with_suffix("") / f"{name}.png") as picture:
                save_heat_map(picture, example, low, high)
        with replacing(sheet) as picture:
            save_contact_sheet(picture, examples, target, low, high)
        return examples


def heat_map_file(folder: Path, target: str, key: str) -> Path | None:
    """The heat map of a target's image in a run folder; None if it was not drawn.

    Names that differ only in case carry a mark, which is not looked for.
    """
    files = (folder / "heatmaps" / file_name(target) / f"{file_name(name)}.png" for name in (_flat(key), key))
    return next((file for file in files if file.is_file()), None)


def _file_names(keys: Sequence[str]) -> list[str]:
    """A file name for each image: its path in the dataset without the suffix, or its key where two have one."""
    flat = [_flat(key) for key in keys]
    return list(file_names(flat if len(set(flat)) == len(keys) else keys).values())


def _flat(key: str) -> str:
    return _shown_name(key).replace("/", "_")


def _shown_name(key: str) -> str:
    """The path of an image in its dataset without the suffix."""
    return printable(key.split("/", 2)[-1].rsplit(".", 1)[0])


def _example(image: ScoredImage, mask: Tensor | None, orientation: Orientation, module: CopsModule) -> Example:
    sample = image.sample
    shown = read_image(sample.image, orientation)
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    with torch.no_grad():
        pixels = module.model.expand(image.patches[None])[0].numpy()
    truth = None if mask is None else mask.bool().numpy()
    return Example(_shown_name(sample.key), np.asarray(shown), truth, pixels, image.score, bool(sample.anomalous))
